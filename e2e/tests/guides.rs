//! Runs the commands and objects of the documentation, each page from top to bottom in one shell, as a reader would.
//!
//! The README comes first, then the pages in the order in which a new admin reads; each may build on what the ones before left. All find the chart installed as the README says, the variables
//! that `make -s env` prints, `KUBECONFIG`, and our tools and the job in `PATH`. They share a working directory.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use kubedr_e2e::{Block, Cluster, Language, Release, blocks};

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout")
}

/// The order in which a new admin reads; what is not named here comes after, by name.
const FIRST: [&str; 10] = [
    "README.md",
    "docs/install.md",
    "docs/backup.md",
    "docs/kubedrctl.md",
    "docs/locations.md",
    "docs/restore.md",
    "docs/restore-by-resource.md",
    "docs/retention.md",
    "docs/maintenance.md",
    "docs/catalog.md",
];

fn pages() -> Result<Vec<PathBuf>> {
    let mut pages = vec![checkout().join("README.md")];
    for file in std::fs::read_dir(checkout().join("docs"))? {
        pages.push(file?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    let place = |page: &PathBuf| {
        FIRST.iter().position(|first| page == &checkout().join(first)).unwrap_or(FIRST.len())
    };
    pages.sort_by_key(|page| (place(page), page.clone()));
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

/// Runs a page's blocks; gives back how many there are.
fn follow(page: &Path, dir: &Path) -> Result<usize> {
    let name = page.strip_prefix(checkout())?.display().to_string();
    let blocks = blocks(&std::fs::read_to_string(page)?);
    let cluster = Cluster::get();
    let tools =
        kubedr_testing::tool("kubectl").parent().context("a directory of tools")?.display().to_string();
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    let job = target.join("release").display().to_string();
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=5", "300", "bash", "-c", &script(&name, &blocks)]).stdin(Stdio::null());
    shell.envs(cluster.variables()).env("KUBECONFIG", cluster.kubeconfig()).env("HOME", dir);
    shell.env("PATH", format!("{tools}:{job}:{}", std::env::var("PATH")?)).current_dir(dir);
    let output = shell.output()?;
    let said = [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned()).concat();
    ensure!(output.status.success(), "{name} does not do what it says: {}\n{said}", output.status);
    Ok(blocks.len())
}

#[test]
fn the_documentation_does_what_it_says() {
    let _installed = Release::shared();
    // The claims on the pages ask for what a cluster's default storage class gives.
    kubedr_e2e::offer_volumes("guides", 5).expect("volumes for the pages");
    let dir = tempfile::tempdir().expect("a working directory");
    let (mut wrong, mut run) = (Vec::new(), 0);
    for page in pages().expect("the pages") {
        match follow(&page, dir.path()) {
            Ok(blocks) => run += blocks,
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(run > 10, "{run} blocks in all");
}
