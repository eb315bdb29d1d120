//! The harness of the end-to-end tests.
//!
//! A test is a [`Case`]: a closure that gets names of its own (policy, location, Secrets, bucket) on the one test cluster,
//! and either shares the operator that serves `kubedr-system` or has a release of the chart in a namespace of its own. The
//! harness applies objects, triggers backups as an admin's `kubectl create job --from=cronjob/…` does, and waits for
//! conditions with [`until`], never for time to pass. A [`Volume`] takes restores, an [`OwnS3`] may be frozen and killed, a
//! [`Door`] lets single requests to the S3 server wait. Every repository that a case leaves on the S3 server is checked by
//! stock restic, and what it leaves in the cluster is searched for secrets before that is deleted. A case that fails first
//! writes objects, events and logs to `target/e2e/<case>/` and the heart of it to the test's output; what took a second or
//! more is in `target/e2e/times.tsv`.
//!
//! Everything is judged from outside: through the API server, by stock restic, etcdctl and etcdutl, and with names and
//! messages spelled out in the tests. No crate that ships is linked here.
#![allow(clippy::missing_panics_doc, reason = "test code: a panic is the failure report")]

mod api_server;
mod canary;
mod case;
mod cluster;
mod door;
mod evidence;
mod guides;
mod kubedr;
mod own_s3;
mod prometheus;
mod release;
mod repositories;
mod restore;
mod run;
mod times;
mod until;
mod volume;

pub use api_server::{ApiServer, Refused, resource};
pub use canary::Canary;
pub use case::{Case, case, case_from_scratch, case_with_operator, condition, contains_all};
pub use cluster::Cluster;
pub use door::Door;
pub use guides::{Block, Language, blocks};
pub use own_s3::OwnS3;
pub use prometheus::{Prometheus, Sample, dashboard_queries};
pub use release::{Release, SHARED_NAMESPACE};
pub use repositories::ids;
pub use run::{Event, Run, passes, passes_unlocked};
pub use until::{second, seconds, until};
pub use volume::{Access, Volume, offer_volumes};
