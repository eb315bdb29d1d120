//! Volumes. The node has no provisioner, so a test makes its own, and a claim that is bound to each.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{done, text};
use crate::{Case, resource, seconds, until};

/// Access mode of a volume and its claim, as Kubernetes spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are Kubernetes' names")]
pub enum Access {
    ReadWriteOnce,
    ReadWriteOncePod,
    ReadWriteMany,
    /// The volume is mounted so: writing fails with EROFS. What shall be on it is given when it is made.
    ReadOnlyMany,
}

/// A `local` volume of one test, bound to a claim in the test's namespace. It goes with the test.
///
/// It is a directory of the node, like a new file system: empty, root's, mode 0755, and `fsGroup` works.
#[derive(Clone, Debug)]
pub struct Volume {
    claim: String,
    dir: String,
}

/// Directory of the node with one directory of volumes for each case.
const VOLUMES: &str = "/var/lib/e2e-volumes";
const PERSISTENT_VOLUMES: &str = "/api/v1/persistentvolumes";
const CLAIMS: &str = "persistentvolumeclaims";
/// Storage class of a case's volumes and claims, so that no claim takes a volume of [`offer_volumes`]. There is no such object.
const CLASS: &str = "e2e";
/// Label of what belongs to a case and its namespace does not hold, or does not end with.
const LABEL: &str = "e2e.invalid/case";

impl Volume {
    /// A volume as big as the node's disk, with the claim `<case>-<suffix>`.
    pub fn new(case: &Case, suffix: &str, access: Access) -> Result<Self> {
        Self::filled(case, suffix, access, "")
    }

    /// A volume on which a shell has run these commands as root, in its top directory, before it is bound.
    pub fn filled(case: &Case, suffix: &str, access: Access, commands: &str) -> Result<Self> {
        let volume = Self::of(case, suffix);
        let read_only = match access {
            Access::ReadOnlyMany => "mount --bind . \"$0\" && mount -o remount,bind,ro \"$0\"",
            Access::ReadWriteOnce | Access::ReadWriteOncePod | Access::ReadWriteMany => ":",
        };
        volume.make(case, &format!("{commands}\n{read_only}"))?;
        volume.bind(case, access, "10Gi")
    }

    /// A volume on which so many MiB find room and no more.
    pub fn small(case: &Case, suffix: &str, access: Access, mebibytes: u32) -> Result<Self> {
        let volume = Self::of(case, suffix);
        volume.make(case, &format!("mount -t tmpfs -o size={mebibytes}m,mode=0755 e2e \"$0\""))?;
        volume.bind(case, access, &format!("{mebibytes}Mi"))
    }

    /// A volume that lets nobody change owners, as NFS does that squashes root.
    pub fn refusing_chown(case: &Case, suffix: &str, access: Access) -> Result<Self> {
        let volume = Self::of(case, suffix);
        volume.make(case, "bindfs --chown-deny --chgrp-deny . \"$0\"")?;
        volume.bind(case, access, "10Gi")
    }

    /// The name of its claim.
    #[must_use]
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// Its top directory as this machine sees it, for reading and writing past Kubernetes.
    pub fn path(&self, case: &Case) -> Result<PathBuf> {
        case.cluster().in_node(&self.dir)
    }

    /// Everything on it, a line each, sorted: path, type (f, d, l), mode, owner and group as numbers, target of a link.
    pub fn inventory(&self, case: &Case) -> Result<String> {
        let mut find = Command::new("find");
        find.args([".", "-mindepth", "1", "-printf", "%P %y %m %U:%G %l\n"]).current_dir(self.path(case)?);
        let listed = text(&done(&mut find)?);
        let mut lines: Vec<_> = listed.lines().map(str::trim_end).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// Starts a pod that has it mounted and does nothing, and waits until it runs; gives back the pod's name.
    pub fn occupy(&self, case: &Case) -> Result<String> {
        let pod = format!("{}-holder", self.claim);
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": pod, "labels": { LABEL: case.name() } },
            "spec": {
                "containers": [{
                    "name": "holder",
                    "image": "localhost/kubedr/pause:1",
                    "imagePullPolicy": "Never",
                    "volumeMounts": [{ "name": "held", "mountPath": "/held" }],
                }],
                "volumes": [{ "name": "held", "persistentVolumeClaim": { "claimName": self.claim } }],
                "terminationGracePeriodSeconds": 1,
            },
        });
        case.api().apply(&case.path("pods", &pod), &object)?;
        until("the volume is mounted in a pod", seconds(60), || {
            let status = case.get("pods", &pod)?["status"].take();
            ensure!(status["phase"] == "Running", "{status}");
            Ok(())
        })?;
        Ok(pod)
    }

    fn of(case: &Case, suffix: &str) -> Self {
        Self {
            claim: format!("{}-{suffix}", case.name()),
            dir: format!("{VOLUMES}/{}/{suffix}", case.name()),
        }
    }

    /// Makes the top directory and runs commands in it; `$0` is its path, on which they may mount.
    fn make(&self, case: &Case, commands: &str) -> Result<()> {
        let script = format!("set -e; mkdir -p \"$0\"; chmod 755 \"$0\"; cd \"$0\"\n{commands}");
        case.cluster().node(&["bash", "-c", &script, &self.dir]).map(drop)
    }

    fn bind(self, case: &Case, access: Access, capacity: &str) -> Result<Self> {
        let node = json!({ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] });
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": self.claim, "labels": { LABEL: case.name() } },
            "spec": {
                "capacity": { "storage": capacity },
                "accessModes": [format!("{access:?}")],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": CLASS,
                "claimRef": { "namespace": case.namespace(), "name": self.claim },
                "local": { "path": self.dir },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [node] }] } },
            },
        });
        case.api().apply(&format!("{PERSISTENT_VOLUMES}/{}", self.claim), &volume)?;
        // No `volumeName`: with one, the two are sometimes bound only at the controller's next round, 15 s later.
        let spec = json!({ "storageClassName": CLASS, "resources": { "requests": { "storage": capacity } } });
        case.apply_claim(&self.claim, access, spec)?;
        until("the claim is bound", seconds(30), || {
            let status = case.get(CLAIMS, &self.claim)?["status"].take();
            ensure!(status["phase"] == "Bound", "{status}");
            Ok(())
        })?;
        Ok(self)
    }
}

/// Makes volumes that any claim without a storage class is bound to, as many as asked for; they last as long as the cluster.
pub fn offer_volumes(name: &str, count: usize) -> Result<()> {
    let cluster = crate::Cluster::get();
    for number in 0..count {
        let (name, dir) = (format!("{name}-{number}"), format!("{VOLUMES}/{name}/{number}"));
        cluster.node(&["mkdir", "-p", &dir])?;
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": { "name": name },
            "spec": {
                "capacity": { "storage": "20Gi" },
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": { "path": dir },
            },
        });
        cluster.api().apply(&format!("{PERSISTENT_VOLUMES}/{name}"), &volume)?;
    }
    Ok(())
}

impl Case {
    /// A claim `<case>-<suffix>` that stays pending, for there is no class of the name it asks for; gives back its name.
    pub fn apply_pending_claim(&self, suffix: &str, access: Access) -> Result<String> {
        let name = format!("{}-{suffix}", self.name());
        let class = "e2e-no-such-class";
        let spec = json!({ "storageClassName": class, "resources": { "requests": { "storage": "1Gi" } } });
        self.apply_claim(&name, access, spec)?;
        Ok(name)
    }

    fn apply_claim(&self, name: &str, access: Access, mut spec: Value) -> Result<()> {
        spec["accessModes"] = json!([format!("{access:?}")]);
        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "labels": { LABEL: self.name() } },
            "spec": spec,
        });
        self.api().apply(&self.path(CLAIMS, name), &claim).map(drop)
    }
}

/// Removes the case's claims and volumes with all that is on them, and the pods of [`Volume::occupy`].
pub(crate) fn clean_up(case: &Case) -> Result<()> {
    let query = format!("labelSelector={}%3D{}", LABEL.replace('/', "%2F"), case.name());
    let of_case = |plural| resource(case.namespace(), plural);
    for list in [of_case("pods"), of_case(CLAIMS), PERSISTENT_VOLUMES.to_owned()] {
        for object in case.api().list(&list, &query)? {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            case.api().delete(&format!("{list}/{name}"))?;
        }
    }
    let dir = format!("{VOLUMES}/{}", case.name());
    if case.cluster().in_node(&dir)?.exists() {
        // Lazily: a pod that is just ending may still have it.
        let script =
            "for volume in \"$0\"/*; do ! mountpoint -q \"$volume\" || umount --lazy \"$volume\"; done
            rm -rf --one-file-system \"$0\"";
        case.cluster().node(&["bash", "-c", script, &dir])?;
    }
    Ok(())
}
