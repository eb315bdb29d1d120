//! The table of what can become of a Job.

use kubedr_api::names::label;

use super::*;

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_norway::from_str(text).unwrap()
}

fn job(condition: &str) -> Job {
    let status =
        if condition.is_empty() { String::new() } else { format!("\nstatus: {{conditions: [{condition}]}}") };
    yaml(&format!(
        "metadata: {{name: daily-1, uid: u}}\nspec: {{activeDeadlineSeconds: 3600, template: {{}}}}{status}"
    ))
}

fn failed() -> Job {
    job(
        "{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: Job has reached the specified backoff limit}",
    )
}

fn pod(rest: &str) -> Pod {
    yaml(&format!(
        "metadata: {{name: daily-1-x, labels: {{kubedr.type: backup}}}}\nspec: {{nodeName: n1, containers: [{{name: backup-job, image: 'r/job:1', resources: \
         {{limits: {{memory: 256Mi}}}}}}]}}\nstatus: {rest}"
    ))
}

fn terminated(rest: &str) -> Pod {
    pod(&format!(
        "{{phase: Failed, containerStatuses: [{{name: backup-job, state: {{terminated: {rest}}}, image: i, imageID: i, ready: false, restartCount: 0}}]}}"
    ))
}

fn waiting(rest: &str) -> Pod {
    pod(&format!(
        "{{phase: Pending, containerStatuses: [{{name: backup-job, state: {{waiting: {rest}}}, image: i, imageID: i, ready: false, restartCount: 0}}]}}"
    ))
}

fn event(reason: &str, second: u8, message: &str) -> Event {
    let message = message.replace('\'', "''");
    yaml(&format!(
        "{{metadata: {{name: e}}, involvedObject: {{}}, reason: {reason}, message: '{message}', lastTimestamp: '2026-01-01T00:00:{second:02}Z'}}"
    ))
}

fn diagnose(job: &Job, pods: &[Pod], events: &[Event]) -> Verdict {
    Facts { job, pods, events }.diagnose()
}

fn why_failed(pods: &[Pod]) -> String {
    match diagnose(&failed(), pods, &[]) {
        Verdict::Failed(message) => message,
        other => panic!("{other:?}"),
    }
}

fn why_stuck(pod: Pod, events: &[Event]) -> String {
    match diagnose(&job(""), &[pod], events) {
        Verdict::CannotStart(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_that_is_complete_has_succeeded_whatever_its_pods_say() {
    let job = job("{type: SuccessCriteriaMet, status: 'True'}, {type: Complete, status: 'True'}");
    assert_eq!(diagnose(&job, &[], &[]), Verdict::Succeeded);
}

#[test]
fn a_failure_is_told_in_the_words_of_the_job() {
    let pod = terminated(
        "{exitCode: 3, reason: Error, message: 'no healthy member among `https://127.0.0.1:2379`'}",
    );
    assert_eq!(why_failed(&[pod]), "no healthy member among `https://127.0.0.1:2379`");
}

#[test]
fn of_a_log_the_last_line_is_told() {
    let pod =
        terminated(r#"{exitCode: 2, reason: Error, message: "line one\nerror: unexpected argument\n\n"}"#);
    assert_eq!(why_failed(&[pod]), "error: unexpected argument");
}

#[test]
fn a_panic_is_told_with_its_exit_code_and_without_the_note_on_backtraces() {
    let said =
        r#""thread 'main' panicked at src/main.rs:1:\nindex out of bounds\nnote: run with RUST_BACKTRACE=1""#;
    let message = why_failed(&[terminated(&format!("{{exitCode: 101, reason: Error, message: {said}}}"))]);
    assert_eq!(message, "pod `daily-1-x` ended with exit code 101; its last words: index out of bounds");
}

#[test]
fn a_line_of_a_json_log_is_told_as_text() {
    let said = r#"'{"level":"ERROR","message":"the job failed","error":"no route"}'"#;
    let message = why_failed(&[terminated(&format!("{{exitCode: 4, reason: Error, message: {said}}}"))]);
    assert_eq!(message, "the job failed: no route");
}

#[test]
fn a_job_killed_for_its_memory_names_the_limit_and_the_value_to_raise() {
    let message = why_failed(&[terminated("{exitCode: 137, reason: OOMKilled}")]);
    assert!(message.contains("`256Mi`") && message.contains("`job.resources.limits.memory`"), "{message}");
}

#[test]
fn a_job_that_could_not_report_its_success_says_that_the_data_is_stored() {
    let message = why_failed(&[terminated("{exitCode: 5, reason: Error, message: 'forbidden'}")]);
    assert!(message.starts_with("the work is done and stored") && message.contains("forbidden"), "{message}");
}

#[test]
fn each_kind_of_job_that_could_not_report_says_what_it_has_done() {
    for (type_, done, advice) in [
        ("sync", "did not let the repository be compared", "the next look does it again"),
        ("forget", "report on deleted snapshots or reclaimed space", "finds what is deleted already"),
        ("backuploc-init", "the repository is initialised", "finds it initialised"),
        ("restore", "the data is on the volume", "may be used"),
    ] {
        let mut pod = terminated("{exitCode: 5, reason: Error, message: 'forbidden'}");
        pod.labels_mut().insert(label::TYPE.to_owned(), type_.to_owned());
        let message = why_failed(&[pod]);
        assert!(message.contains(done) && message.contains(advice), "{message}");
        assert!(message.contains("forbidden; check the rights") && !message.contains("restic"), "{message}");
    }
}

#[test]
fn a_job_without_words_gives_its_exit_code() {
    let message = why_failed(&[terminated("{exitCode: 1, reason: Error}")]);
    assert!(message.contains("exit code 1 (Error)") && message.contains("`daily-1-x`"), "{message}");
}

#[test]
fn an_evicted_pod_is_told_with_the_words_of_the_node() {
    let message = why_failed(&[pod("{phase: Failed, reason: Evicted, message: 'low on resource: memory'}")]);
    assert!(message.contains("Evicted: low on resource: memory"), "{message}");
}

#[test]
fn a_deleted_pod_is_told_as_such_while_it_is_there_and_when_it_is_gone() {
    assert!(why_failed(&[]).contains("was deleted before it had finished"));
    let mut pod = terminated("{exitCode: 143, reason: Error, message: terminated}");
    pod.metadata.deletion_timestamp = Some(yaml("'2026-01-01T00:00:00Z'"));
    assert_eq!(why_failed(&[pod]), "pod `daily-1-x` was deleted before it had finished");
}

#[test]
fn a_job_past_its_deadline_names_the_value_to_raise() {
    let job = job("{type: Failed, status: 'True', reason: DeadlineExceeded, message: m}");
    let Verdict::Failed(message) = diagnose(&job, &[], &[]) else { panic!() };
    assert!(message.contains("3600 s") && message.contains("`job.activeDeadlineSeconds`"), "{message}");
}

#[test]
fn an_image_that_cannot_be_pulled_is_named() {
    for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"] {
        let message = why_stuck(waiting(&format!("{{reason: {reason}, message: 'not found'}}")), &[]);
        assert!(
            message.contains("`r/job:1`") && message.contains(&format!("{reason}: not found")),
            "{message}"
        );
    }
}

#[test]
fn a_container_that_cannot_be_created_is_told_with_the_words_of_the_node() {
    for reason in ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"] {
        let message = why_stuck(waiting(&format!("{{reason: {reason}, message: 'no such user'}}")), &[]);
        assert!(message.ends_with(&format!("({reason}: no such user)")), "{message}");
    }
}

#[test]
fn a_pod_that_no_node_takes_is_told_with_the_words_of_the_scheduler() {
    let pod = pod(
        "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: '0/1 nodes are \
         available: 1 node(s) did not match affinity'}]}",
    );
    let message = why_stuck(pod, &[]);
    assert!(
        message.contains("0/1 nodes are available") && message.contains("master-node-label-name"),
        "{message}"
    );
}

#[test]
fn a_directory_that_the_node_lacks_is_told_from_the_newest_event() {
    let events = [
        event("FailedMount", 1, "old"),
        event("FailedMount", 9, "hostPath type check failed: /etc/pki is not a directory"),
        event("Scheduled", 10, "assigned"),
    ];
    let message = why_stuck(waiting("{reason: ContainerCreating}"), &events);
    assert!(
        message.contains("`n1`") && message.contains("/etc/pki is not a directory; correct `spec.certsDir`"),
        "{message}"
    );
}

#[test]
fn a_pod_that_is_being_set_up_is_given_time() {
    let verdict = diagnose(&job(""), &[waiting("{reason: ContainerCreating}")], &[]);
    assert!(matches!(verdict, Verdict::Starting(_)), "{verdict:?}");
    assert!(matches!(diagnose(&job(""), &[pod("{phase: Pending}")], &[]), Verdict::Starting(_)));
}

#[test]
fn a_job_whose_pod_is_refused_says_by_whom() {
    let events = [event("FailedCreate", 1, "pods \"x\" is forbidden: violates PodSecurity \"restricted\"")];
    let Verdict::CannotStart(message) = diagnose(&job(""), &[], &events) else { panic!() };
    assert!(message.contains("violates PodSecurity"), "{message}");
    assert!(
        message.ends_with("label the namespace `pod-security.kubernetes.io/enforce=privileged`"),
        "{message}"
    );
    assert!(matches!(diagnose(&job(""), &[], &[]), Verdict::Starting(_)));
}

#[test]
fn a_pod_that_ended_is_not_judged_before_its_job() {
    assert_eq!(diagnose(&job(""), &[terminated("{exitCode: 1}")], &[]), Verdict::Running);
    let running = pod(
        "{phase: Running, containerStatuses: [{name: backup-job, state: {running: {}}, image: i, imageID: i, ready: true, restartCount: 0}]}",
    );
    assert_eq!(diagnose(&job(""), &[running], &[]), Verdict::Running);
}

#[test]
fn a_mount_that_failed_once_and_then_went_well_is_no_failure() {
    let pod = waiting("{reason: ContainerCreating}");
    let events = [event("FailedMount", 1, "timed out"), event("Pulling", 2, "Pulling image")];
    assert!(matches!(diagnose(&job(""), &[pod], &events), Verdict::Starting(_)));
}

#[test]
fn a_kubelet_that_asks_before_the_authorizer_knows_the_pod_is_given_time() {
    let pod = waiting("{reason: ContainerCreating}");
    let message = "Unable to attach or mount volumes: persistentvolumeclaims \"c\" is forbidden: User \"system:node:n1\" cannot \
                   get resource: no relationship found between node 'n1' and this object";
    assert!(matches!(diagnose(&job(""), &[pod], &[event("FailedMount", 1, message)]), Verdict::Starting(_)));
}

#[test]
fn a_job_that_is_going_to_fail_has_failed_though_its_pod_cannot_be_removed() {
    let job = job("{type: FailureTarget, status: 'True', reason: DeadlineExceeded, message: m}");
    assert!(ended_at(&job).is_some());
    assert!(matches!(diagnose(&job, &[], &[]), Verdict::Failed(_)));
}

#[test]
fn a_pod_that_cannot_get_its_repositorys_volume_is_told_by_the_claim_and_the_node_that_had_it() {
    let unscheduled = |said: &str| {
        let mut pod = pod(&format!(
            "{{phase: Pending, conditions: [{{type: PodScheduled, status: 'False', reason: Unschedulable, message: '{said}'}}]}}"
        ));
        pod.spec = serde_norway::from_str(
            "{containers: [], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: \
             [{matchFields: [{key: metadata.name, operator: In, values: [m1]}]}]}}}, volumes: [{name: repository, \
             persistentVolumeClaim: {claimName: disk}}]}",
        )
        .unwrap();
        pod
    };
    let message = why_stuck(unscheduled("0/3 nodes are available: node affinity conflict"), &[]);
    assert!(
        message.contains("PersistentVolumeClaim `disk`") && message.contains("on node `m1`"),
        "{message}"
    );
    let busy = unscheduled(
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
    );
    assert!(matches!(diagnose(&job(""), &[busy], &[]), Verdict::Starting(_)), "it waits for another job");
}
