//! Which member to ask for the snapshot.

/// How much older, in log entries, a member's data may be before the leader is preferred to it.
const LAG_MAX: u64 = 1000;

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberStatus {
    pub member_id: u64,
    pub cluster_id: u64,
    /// Id of the leader it knows; 0 if it knows none.
    pub leader: u64,
    pub learner: Learner,
    /// Index of the last log entry that it has applied.
    pub applied: u64,
    /// Alarms and complaints, in etcd's own words.
    pub errors: Vec<String>,
}

/// Whether a member has a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learner {
    Yes,
    No,
}

/// Why a member that answered is not asked for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("it is a learner, which may lack data; give endpoints of voting members")]
    Learner,
    #[error(
        "etcd has raised the alarm CORRUPT for it: its data differs from the other members'; replace the member"
    )]
    Corrupt,
    #[error(
        "it knows no leader, so that its data may be outdated; restore the quorum of the cluster, or take the file `member/snap/db` from its data directory"
    )]
    NoLeader,
}

/// Why this member must not be asked; `None` if it may.
///
/// A full database (alarm NOSPACE) is no reason: its snapshot is good, and wanted more than ever.
pub(crate) fn unfit(member: &MemberStatus) -> Option<Unfit> {
    let own = format!("memberID:{} ", member.member_id);
    let corrupt = |error: &String| error.contains("CORRUPT") && error.contains(&own);
    if member.learner == Learner::Yes {
        Some(Unfit::Learner)
    } else if member.errors.iter().any(corrupt) {
        Some(Unfit::Corrupt)
    } else if member.leader == 0 {
        Some(Unfit::NoLeader)
    } else {
        None
    }
}

/// Indices of the members in the order in which to ask them: followers, the leader, followers that lag far behind it; each
/// group in the order given. The leader has enough to do.
pub(crate) fn choose(members: &[MemberStatus]) -> Vec<usize> {
    let newest = members.iter().map(|member| member.applied).max().unwrap_or_default();
    let mut order: Vec<usize> = (0..members.len()).filter(|&i| unfit(&members[i]).is_none()).collect();
    order.sort_by_key(|&i| {
        let member = &members[i];
        if member.leader == member.member_id {
            1
        } else if newest - member.applied > LAG_MAX {
            2
        } else {
            0
        }
    });
    order
}

/// Two members, by their index, of different clusters.
pub(crate) fn different_clusters(members: &[MemberStatus]) -> Option<(usize, usize)> {
    let first = members.first()?;
    let other = members.iter().position(|member| member.cluster_id != first.cluster_id)?;
    Some((0, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64) -> MemberStatus {
        MemberStatus {
            member_id: id,
            cluster_id: 9,
            leader: 1,
            learner: Learner::No,
            applied: 5000,
            errors: Vec::new(),
        }
    }

    #[test]
    fn a_follower_comes_before_the_leader() {
        assert_eq!(choose(&[member(1), member(2), member(3)]), [1, 2, 0]);
        assert_eq!(choose(&[member(1)]), [0]);
        assert!(choose(&[]).is_empty());
    }

    #[test]
    fn a_follower_that_lags_far_behind_comes_last() {
        let behind = MemberStatus { applied: 1, ..member(2) };
        assert_eq!(choose(&[behind, member(1), member(3)]), [2, 1, 0]);
    }

    #[test]
    fn a_learner_is_never_asked() {
        let learner = MemberStatus { learner: Learner::Yes, ..member(2) };
        assert_eq!(unfit(&learner), Some(Unfit::Learner));
        assert_eq!(choose(&[learner, member(1)]), [1]);
    }

    #[test]
    fn only_the_member_that_the_corrupt_alarm_names_is_left_out() {
        let errors = vec!["memberID:2 alarm:CORRUPT ".to_owned()];
        let named = MemberStatus { errors: errors.clone(), ..member(2) };
        let other = MemberStatus { errors, ..member(22) };
        assert_eq!(unfit(&named), Some(Unfit::Corrupt));
        assert_eq!(choose(&[named, other]), [1]);
    }

    #[test]
    fn a_full_database_is_backed_up() {
        let full = MemberStatus { errors: vec!["memberID:2 alarm:NOSPACE ".to_owned()], ..member(2) };
        assert_eq!(unfit(&full), None);
    }

    #[test]
    fn a_member_without_a_leader_is_left_out() {
        let alone = MemberStatus { leader: 0, ..member(2) };
        assert_eq!(unfit(&alone), Some(Unfit::NoLeader));
    }

    #[test]
    fn members_of_different_clusters_are_noticed() {
        let foreign = MemberStatus { cluster_id: 8, ..member(2) };
        assert_eq!(different_clusters(&[member(1), member(3), foreign]), Some((0, 2)));
        assert_eq!(different_clusters(&[member(1), member(3)]), None);
    }
}
