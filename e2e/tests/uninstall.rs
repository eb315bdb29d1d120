//! Runs last: uninstalls the chart in the order that is worst, installs it again, and removes all of it. Nothing may hang.

use anyhow::{Result, ensure};
use kubedr_e2e::{Cluster, Release, SHARED_NAMESPACE, seconds, until};

fn crds() -> Result<Vec<String>> {
    let crds = Cluster::get().kubectl(&["get", "crd", "--output=name"])?;
    Ok(crds.lines().filter(|crd| crd.ends_with(".kubedr.catalogicsoftware.com")).map(str::to_owned).collect())
}

fn location() -> String {
    format!(
        "apiVersion: kubedr.catalogicsoftware.com/v1alpha1\nkind: BackupLocation\nmetadata: {{name: last, namespace: {SHARED_NAMESPACE}}}\n\
         spec: {{url: {}, bucketName: last, credentials: last}}\n",
        Cluster::get().var("S3_ENDPOINT")
    )
}

fn uninstall() -> Result<()> {
    let cluster = Cluster::get();
    let _installed = Release::shared();
    let applied = cluster.kubectl_with(&["apply", "-f", "-"], &location())?;
    ensure!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let gone =
        cluster.helm(&["uninstall", "kubedr", "--namespace", SHARED_NAMESPACE, "--wait", "--timeout=60s"])?;
    ensure!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    ensure!(crds()?.len() == 4, "the CRDs stay, and all objects with them: {:?}", crds()?);
    cluster.kubectl(&["--namespace", SHARED_NAMESPACE, "get", "backuplocation", "last"])?;

    // what is left belongs to the same release: no --take-ownership is needed
    Release::shared().upgrade(&[])?;
    let gone =
        cluster.helm(&["uninstall", "kubedr", "--namespace", SHARED_NAMESPACE, "--wait", "--timeout=60s"])?;
    ensure!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));

    // the namespace before the objects and the CRDs, and no operator to help
    cluster.kubectl(&["delete", "namespace", SHARED_NAMESPACE, "--timeout=90s"])?;
    for crd in crds()? {
        cluster.kubectl(&["delete", &crd, "--timeout=60s"])?;
    }
    until("the CRDs are gone", seconds(30), || {
        ensure!(crds()?.is_empty(), "{:?}", crds()?);
        Ok(())
    })
}

#[test]
fn the_chart_goes_and_comes_in_any_order_and_nothing_hangs() {
    uninstall().expect("the chart can be removed");
}
