//! Runs after all other tests (its name comes last): what they left behind holds no secret.

use kubedr_e2e::{Canary, Cluster};

#[test]
fn no_secret_is_in_any_log_event_status_or_pod_of_the_whole_run() {
    let canary = Canary::new(Cluster::get()).expect("the secrets of this cluster");
    canary.search_everywhere().expect("no secret is found");
}

#[test]
fn a_secret_would_be_found() {
    let cluster = Cluster::get();
    let canary = Canary::new(cluster).expect("the secrets of this cluster");
    let leak = format!("the key is {}!", cluster.var("AWS_SECRET_ACCESS_KEY"));
    let error = canary.examine("a log", &leak).expect_err("it is there");
    assert!(!error.to_string().contains(cluster.var("AWS_SECRET_ACCESS_KEY")), "the report is a leak itself");
    canary.examine("a log", &cluster.var("RESTIC_PASSWORD")[1..]).expect("a part of a secret is none");
}
