//! Runs the commands and objects of the documentation, each page from top to bottom in one shell, as a reader would.
//!
//! A page finds the variables that `make -s env` prints, and `KUBECONFIG`, with our tools first in `PATH`. A page begins with a cluster
//! on which the chart is not installed, and has to say itself what it needs.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Block, Canary, Cluster, Language, blocks};

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout")
}

fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![checkout().join("README.md")];
    for file in std::fs::read_dir(checkout().join("docs"))? {
        pages.push(file?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    Ok(pages)
}

/// The page as one script, which says before each block at which line of the page it is.
fn script(page: &str, blocks: &[Block]) -> String {
    blocks.iter().fold("set -euo pipefail\n".to_owned(), |mut script, Block { language, line, text }| {
        let _ = writeln!(script, "printf '%s\\n' '---- {page}:{line}'");
        let _ = match language {
            Language::Shell => write!(script, "{text}"),
            Language::Yaml => write!(script, "kubectl apply -f - <<END_OF_YAML\n{text}END_OF_YAML\n"),
        };
        script
    })
}

fn follow(page: &Path, home: &Path) -> Result<()> {
    let name = page.strip_prefix(checkout())?.display().to_string();
    let blocks = blocks(&std::fs::read_to_string(page)?);
    if blocks.is_empty() {
        return Ok(());
    }
    let cluster = Cluster::get();
    let tools =
        kubedr_testing::tool("kubectl").parent().context("a directory of tools")?.display().to_string();
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=5", "300", "bash", "-c", &script(&name, &blocks)]).stdin(Stdio::null());
    shell.envs(cluster.variables()).env("KUBECONFIG", cluster.kubeconfig()).env("HOME", home);
    shell.env("PATH", format!("{tools}:{}", std::env::var("PATH")?)).current_dir(checkout());
    let output = shell.output()?;
    let said = [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
    ensure!(output.status.success(), "{name} does not do what it says: {}\n{said}", output.status);
    Ok(())
}

/// A cluster without KubeDR, whose CRDs stay when a release goes.
fn remove_everything() -> Result<()> {
    let cluster = Cluster::get();
    Canary::new(cluster)?.search_everywhere()?;
    cluster.helm(&["uninstall", "kubedr", "--namespace", "kubedr-system", "--ignore-not-found", "--wait"])?;
    cluster.kubectl(&["delete", "namespace", "kubedr-system", "--ignore-not-found", "--timeout=60s"])?;
    let crds = cluster.kubectl(&["get", "crd", "--output=name"])?;
    for crd in crds.lines().filter(|crd| crd.ends_with(".kubedr.catalogicsoftware.com")) {
        cluster.kubectl(&["delete", crd, "--timeout=60s"])?;
    }
    Ok(())
}

#[test]
fn the_documentation_does_what_it_says() {
    let pages = pages().expect("the pages");
    let mut wrong = Vec::new();
    for page in pages {
        let home = tempfile::tempdir().expect("a home");
        let done = remove_everything().and_then(|()| follow(&page, home.path()));
        wrong.extend(done.err().map(|error| format!("{error:#}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
