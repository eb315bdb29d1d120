//! Leader election by a Lease, so that two replicas are safe: client-go's rules and times.
//!
//! A replica that does not lead takes the lease when it is free, or when it has not changed for as long as it is valid by
//! the replica's own clock (clocks of two machines are never compared). The leader renews it every two seconds; if that
//! fails for ten, it has to stop, five seconds before another replica may begin. Every write carries the resource
//! version that was read, so of two replicas that try at once one gets a conflict.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kubedr_api::names::LEASE;

use crate::api_call::{ApiError, call};

/// How long a lease that is not renewed stays valid.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader leads without a successful renewal.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between two looks at the lease.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// What one look at the lease has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This replica leads.
    Leading,
    /// Another replica leads, or did when the lease was last read.
    Standby,
    /// This replica does not lead, and has not been able to read or write the lease for as long as it stays valid: nobody may
    /// lead by now, and this one could not.
    Blind,
    /// This replica led and does no more: it has to stop at once.
    Lost,
}

/// What is to be done about the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Take,
    Renew,
    Wait,
    GiveUp,
}

/// One replica's view of the lease.
#[derive(Debug)]
pub struct Elector {
    leases: Api<Lease>,
    identity: String,
    /// Resource version of the lease and when this replica first saw it.
    seen: Option<(String, Instant)>,
    /// When this replica last renewed the lease; `None` if it does not lead.
    renewed: Option<Instant>,
    /// When this replica last read the lease, and wrote it if that was due.
    reached: Option<Instant>,
}

impl Elector {
    /// A replica of this name that does not lead yet.
    #[must_use]
    pub fn new(leases: Api<Lease>, identity: &str) -> Self {
        Self { leases, identity: identity.to_owned(), seen: None, renewed: None, reached: None }
    }

    /// When this replica has to stop unless it renews the lease before; `None` if it does not lead.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.renewed.map(|at| at + RENEW_DEADLINE)
    }

    /// Looks at the lease once and creates, takes or renews it if that is due.
    ///
    /// An error leaves the standing as it is, until the time has come to give up.
    pub async fn look(&mut self, now: Instant, wall: Timestamp) -> Standing {
        let begun = Instant::now();
        match self.attempt(now, wall).await {
            Ok(standing) => {
                self.reached = Some(now);
                standing
            }
            Err(error) => {
                tracing::warn!(%error, "the lease could not be read or written");
                // An API server that is silent has taken its time.
                self.standing(now + begun.elapsed())
            }
        }
    }

    /// Gives the lease away, so that another replica need not wait until it has run out.
    pub async fn release(&mut self, wall: Timestamp) -> Result<(), ApiError> {
        if self.renewed.take().is_none() {
            return Ok(());
        }
        let Some(lease) = self.read().await? else { return Ok(()) };
        if holder(&lease) != self.identity {
            return Ok(());
        }
        let mut free = self.held(Some(&lease), wall);
        if let Some(spec) = &mut free.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        self.write(&free).await
    }

    fn standing(&self, now: Instant) -> Standing {
        match self.deadline() {
            Some(deadline) if now >= deadline => Standing::Lost,
            Some(_) => Standing::Leading,
            None if self.reached.is_some_and(|at| now.duration_since(at) < LEASE_DURATION) => {
                Standing::Standby
            }
            None => Standing::Blind,
        }
    }

    async fn attempt(&mut self, now: Instant, wall: Timestamp) -> Result<Standing, ApiError> {
        let lease = self.read().await?;
        self.note(lease.as_ref(), now);
        let written = match self.decide(lease.as_ref(), now) {
            Step::Wait => return Ok(Standing::Standby),
            Step::GiveUp => return Ok(Standing::Lost),
            Step::Create => {
                let action = || format!("create Lease `{LEASE}`");
                let new = self.held(None, wall);
                call(action, self.leases.create(&PostParams::default(), &new)).await.map(|_| ())
            }
            Step::Take | Step::Renew => self.write(&self.held(lease.as_ref(), wall)).await,
        };
        match written {
            Ok(()) => {
                self.renewed = Some(now);
                Ok(Standing::Leading)
            }
            // Another replica was faster, or something else changed the lease: the next look tells which.
            Err(error) if error.is_conflict() => {
                self.reached = Some(now);
                Ok(self.standing(now))
            }
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, lease: Option<&Lease>, now: Instant) {
        let version = lease.and_then(|lease| lease.metadata.resource_version.clone()).unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(known, _)| *known != version) {
            self.seen = Some((version, now));
        }
    }

    fn decide(&self, lease: Option<&Lease>, now: Instant) -> Step {
        let Some(lease) = lease else { return Step::Create };
        let holder = holder(lease);
        if holder == self.identity {
            // Without a renewal of ours it was taken by a process of this pod that is no more.
            return Step::Renew;
        }
        if self.renewed.is_some() {
            return Step::GiveUp;
        }
        let valid = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
        let valid = Duration::from_secs(u64::try_from(valid).unwrap_or(0));
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| now.duration_since(*since));
        if holder.is_empty() || unchanged >= valid { Step::Take } else { Step::Wait }
    }

    /// The lease as it is when this replica holds it.
    fn held(&self, old: Option<&Lease>, wall: Timestamp) -> Lease {
        let old_spec = old.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let held_before = old_spec.holder_identity.as_deref() == Some(self.identity.as_str());
        let transitions = old_spec.lease_transitions.unwrap_or(0);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            renew_time: Some(MicroTime(wall)),
            acquire_time: if held_before { old_spec.acquire_time } else { Some(MicroTime(wall)) },
            lease_transitions: Some(if held_before || old.is_none() { transitions } else { transitions + 1 }),
            ..old_spec
        };
        let metadata = old.map_or_else(
            || ObjectMeta { name: Some(LEASE.to_owned()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        Lease { metadata, spec: Some(spec) }
    }

    async fn read(&self) -> Result<Option<Lease>, ApiError> {
        call(|| format!("read Lease `{LEASE}`"), self.leases.get_opt(LEASE)).await
    }

    async fn write(&self, lease: &Lease) -> Result<(), ApiError> {
        let action = || format!("write Lease `{LEASE}`");
        call(action, self.leases.replace(LEASE, &PostParams::default(), lease)).await.map(|_| ())
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubedr_testing::FakeApi;

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/kubedr-operator";

    struct Clock(Instant);

    impl Clock {
        fn at(&self, second: u64) -> (Instant, Timestamp) {
            let wall = Timestamp::from_second(1_800_000_000 + i64::try_from(second).unwrap()).unwrap();
            (self.0 + Duration::from_secs(second), wall)
        }
    }

    fn elector(api: &FakeApi, name: &str) -> Elector {
        Elector::new(Api::namespaced(api.client(), "ns"), name)
    }

    async fn look(elector: &mut Elector, clock: &Clock, second: u64) -> Standing {
        let (now, wall) = clock.at(second);
        elector.look(now, wall).await
    }

    #[tokio::test]
    async fn the_first_replica_leads_and_the_second_waits() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        assert_eq!(look(&mut a, &clock, 0).await, Standing::Leading);
        for second in (2..60).step_by(2) {
            assert_eq!(look(&mut b, &clock, second).await, Standing::Standby, "{second}");
            assert_eq!(look(&mut a, &clock, second).await, Standing::Leading, "{second}");
        }
    }

    #[tokio::test]
    async fn the_lease_of_a_dead_leader_is_taken_when_it_has_run_out_and_not_before() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        look(&mut a, &clock, 0).await;
        assert_eq!(look(&mut b, &clock, 5).await, Standing::Standby);
        assert_eq!(look(&mut b, &clock, 19).await, Standing::Standby);
        assert_eq!(look(&mut b, &clock, 20).await, Standing::Leading);
        assert_eq!(api.get(PATH)["spec"]["leaseTransitions"], 1);
        assert_eq!(look(&mut a, &clock, 21).await, Standing::Lost);
    }

    #[tokio::test]
    async fn a_leader_that_cannot_renew_stops_before_another_may_begin() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let mut a = elector(&api, "a");
        look(&mut a, &clock, 0).await;
        api.fail(true);
        assert_eq!(look(&mut a, &clock, 8).await, Standing::Leading);
        assert_eq!(look(&mut a, &clock, 10).await, Standing::Lost);
        assert!(RENEW_DEADLINE < LEASE_DURATION);
    }

    #[tokio::test]
    async fn a_replica_that_cannot_read_the_lease_while_it_is_valid_is_blind() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        look(&mut a, &clock, 0).await;
        assert_eq!(look(&mut b, &clock, 0).await, Standing::Standby);
        api.fail(true);
        assert_eq!(look(&mut b, &clock, 14).await, Standing::Standby);
        assert_eq!(look(&mut b, &clock, 15).await, Standing::Blind);
        assert_eq!(look(&mut elector(&api, "c"), &clock, 15).await, Standing::Blind, "it never read it");
        api.fail(false);
        look(&mut a, &clock, 16).await;
        assert_eq!(look(&mut b, &clock, 17).await, Standing::Standby);
    }

    #[tokio::test]
    async fn a_replica_that_may_not_write_the_lease_it_should_take_is_blind() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        look(&mut a, &clock, 0).await;
        look(&mut b, &clock, 0).await;
        api.refuse(PATH, 403, "no");
        look(&mut b, &clock, 14).await;
        assert_eq!(look(&mut b, &clock, 16).await, Standing::Standby);
        assert_eq!(look(&mut b, &clock, 30).await, Standing::Blind);
    }

    #[tokio::test]
    async fn a_released_lease_is_taken_at_once() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        look(&mut a, &clock, 0).await;
        assert_eq!(look(&mut b, &clock, 1).await, Standing::Standby);
        a.release(clock.at(2).1).await.unwrap();
        assert_eq!(api.get(PATH)["spec"]["holderIdentity"], "");
        assert_eq!(look(&mut b, &clock, 2).await, Standing::Leading);
    }

    #[tokio::test]
    async fn a_replica_that_does_not_lead_releases_nothing() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        look(&mut a, &clock, 0).await;
        look(&mut b, &clock, 1).await;
        b.release(clock.at(2).1).await.unwrap();
        assert_eq!(api.get(PATH)["spec"]["holderIdentity"], "a");
    }

    #[tokio::test]
    async fn of_two_replicas_that_try_at_once_one_leads() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        let (mut a, mut b) = (elector(&api, "a"), elector(&api, "b"));
        api.put(PATH, serde_json::json!({"metadata": {"name": LEASE, "namespace": "ns"}, "spec": {}}));
        let (one, two) = tokio::join!(look(&mut a, &clock, 0), look(&mut b, &clock, 0));
        let leading = [one, two].into_iter().filter(|standing| *standing == Standing::Leading).count();
        assert_eq!(leading, 1);
    }

    #[tokio::test]
    async fn a_restarted_container_of_the_same_pod_goes_on_at_once() {
        let (api, clock) = (FakeApi::default(), Clock(Instant::now()));
        look(&mut elector(&api, "a"), &clock, 0).await;
        assert_eq!(look(&mut elector(&api, "a"), &clock, 1).await, Standing::Leading);
    }
}
