//! Backups as KubeDR 0.x left them: made by stock restic, certificates as plain files below `/data/certificates/`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use kubedr_testing::{assert_success, run};
use serde_json::{Value, json};

use crate::Case;

impl Case {
    /// Initialises this test's bucket as stock restic does, with this repository version, and backs up an etcd snapshot of the cluster and
    /// the node's certificates as KubeDR 0.x did; gives back the snapshot's id.
    pub fn back_up_as_kubedr(&self, version: u8) -> Result<String> {
        drop(self.restic().ok(&["init", "--repository-version", &version.to_string()]));
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("etcd-snapshot.db");
        let mut save = self.cluster().etcdctl();
        save.args(["snapshot", "save"]).arg(&file);
        assert_success(&run(&mut save));
        // restic notes the path that it is given, which is `/data` in KubeDR's pod: a root of its own has one without this machine's
        // having it.
        let script = "set -e; mount -t tmpfs none \"$0\"; mkdir \"$0\"/{upper,work,root}
            mount -t overlay none -o lowerdir=/,upperdir=\"$0/upper\",workdir=\"$0/work\" \"$0/root\"
            mkdir \"$0/root/data\"; cp -a \"$1\" \"$0/root/data/etcd-snapshot.db\"; cp -a \"$2\" \"$0/root/data/certificates\"
            mount -t proc none \"$0/root/proc\"; mount --bind /dev \"$0/root/dev\"
            chroot \"$0/root\" restic --no-cache --repo \"$3\" backup --quiet /data";
        let root = tempfile::tempdir()?;
        let mut backup = Command::new("unshare");
        backup
            .args(["--mount", "bash", "-c", script])
            .arg(root.path())
            .arg(&file)
            .arg(self.cluster().pki())
            .arg(self.restic().repository());
        backup.envs(self.restic().environment().iter().cloned());
        assert_success(&run(&mut backup));
        let snapshots = self.restic().json(&["snapshots"]);
        ensure!(snapshots[0]["paths"] == json!(["/data"]), "{snapshots}");
        Ok(snapshots[0]["id"].as_str().context("an id")?.to_owned())
    }

    /// The record that KubeDR 0.x wrote for a snapshot: a specification and nothing else. Gives back its name.
    pub fn apply_record_of_kubedr(&self, snapshot: &str) -> Result<String> {
        let spec = json!({ "backuploc": self.name(), "policy": self.name(), "snapshotId": &snapshot[..8] });
        self.apply_record(&format!("mbr-{}", &snapshot[..8]), json!({ "spec": spec }))
    }

    /// Applies a record with these fields; gives back its name.
    pub fn apply_record(&self, name: &str, fields: Value) -> Result<String> {
        let object = json!({
            "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1",
            "kind": "MetadataBackupRecord",
            "metadata": { "name": name },
        });
        self.apply_merged("metadatabackuprecords", object, fields)?;
        Ok(name.to_owned())
    }
}
