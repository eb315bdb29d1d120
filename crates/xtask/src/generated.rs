//! The derived files: where they are and what stands in them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{api_reference, cli_reference, crd, values_reference};

const CRD_DIR: &str = "charts/kubedr/templates/crds";
const COMMAND: &str = "cargo xtask gen";

/// A derived file.
struct Generated {
    /// Path in the checkout.
    path: PathBuf,
    content: String,
}

/// Writes all derived files and removes CRD templates of kinds that are no more.
pub fn write(root: &Path) -> anyhow::Result<()> {
    write_all(root, &files(root)?)
}

fn write_all(root: &Path, files: &[Generated]) -> anyhow::Result<()> {
    for stale in stale(root, files)? {
        fs::remove_file(root.join(&stale)).with_context(|| format!("cannot remove `{}`", stale.display()))?;
    }
    for Generated { path, content } in files {
        let target = root.join(path);
        if let Some(dir) = target.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        }
        fs::write(&target, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Fails if a derived file is not what the code says; the error ends with the command that repairs it.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let drift = drift(root, &files(root)?)?;
    if drift.is_empty() {
        return Ok(());
    }
    bail!("not what the code says: {}\nrun: {COMMAND}", drift.join(", "))
}

fn drift(root: &Path, files: &[Generated]) -> anyhow::Result<Vec<String>> {
    let changed = files
        .iter()
        .filter(|file| fs::read_to_string(root.join(&file.path)).ok().as_ref() != Some(&file.content));
    let changed = changed.map(|file| file.path.clone());
    Ok(changed.chain(stale(root, files)?).map(|path| format!("`{}`", path.display())).collect())
}

fn files(root: &Path) -> anyhow::Result<Vec<Generated>> {
    let mut files = vec![
        Generated { path: "docs/reference/api.md".into(), content: api_reference::page(&crd::all())? },
        Generated { path: "docs/reference/kubedrctl.md".into(), content: cli_reference::page() },
        Generated { path: "docs/reference/values.md".into(), content: values_reference::page(root)? },
    ];
    for crd in crd::all() {
        let path = Path::new(CRD_DIR).join(crd::file_name(&crd));
        files.push(Generated { path, content: crd::template(&crd)? });
    }
    Ok(files)
}

/// Templates in the directory of the CRDs that no kind stands behind.
fn stale(root: &Path, files: &[Generated]) -> anyhow::Result<Vec<PathBuf>> {
    let Ok(dir) = fs::read_dir(root.join(CRD_DIR)) else { return Ok(Vec::new()) };
    let mut stale = Vec::new();
    for entry in dir {
        let path = Path::new(CRD_DIR).join(entry.context("cannot list the CRD templates")?.file_name());
        if !files.iter().any(|file| file.path == path) {
            stale.push(path);
        }
    }
    Ok(stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derived_files_in_the_checkout_are_what_the_code_says() {
        check(&crate::workspace_root()).unwrap();
    }

    #[test]
    fn drift_names_each_changed_and_each_stale_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str| Generated { path: path.into(), content: "as the code says".into() };
        let files = [file("a.md"), file("charts/kubedr/templates/crds/kind.yaml")];
        write_all(dir.path(), &files).unwrap();
        assert_eq!(drift(dir.path(), &files).unwrap(), Vec::<String>::new());

        fs::write(dir.path().join("a.md"), "edited").unwrap();
        fs::write(dir.path().join(CRD_DIR).join("gone.yaml"), "").unwrap();
        let expected = ["`a.md`", "`charts/kubedr/templates/crds/gone.yaml`"];
        assert_eq!(drift(dir.path(), &files).unwrap(), expected);

        write_all(dir.path(), &files).unwrap();
        assert_eq!(drift(dir.path(), &files).unwrap(), Vec::<String>::new());
    }
}
