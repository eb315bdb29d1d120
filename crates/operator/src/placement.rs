//! On which nodes pods run: on masters, or on the one that has the repository's volume.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm,
    Toleration,
};

/// Labels of master nodes on clusters of today and of then.
const MASTER_LABELS: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// On masters: the nodes with this label, else those that Kubernetes calls so. With `node`, on that one of them.
#[must_use]
pub fn on_masters(label: Option<&str>, node: Option<&str>) -> Affinity {
    let labels = label.map_or_else(|| MASTER_LABELS.to_vec(), |label| vec![label]);
    // Terms are alternatives: a node of either kind will do.
    let terms = labels.into_iter().map(|label| NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: label.to_owned(),
            operator: "Exists".to_owned(),
            values: None,
        }]),
        match_fields: node.map(named),
    });
    required(terms.collect())
}

/// Where the backups of a policy run: on masters, unless it has a node selector of its own and names no label of masters. With `node`,
/// on that one of them.
#[must_use]
pub fn of_backups(label: Option<&str>, has_selector: bool, node: Option<&str>) -> Option<Affinity> {
    match (label, has_selector) {
        (None, true) => node.map(on_node),
        _ => Some(on_masters(label, node)),
    }
}

/// On masters as for [`on_masters`], and if it can be on this one.
#[must_use]
pub fn on_masters_preferably(label: Option<&str>, node: Option<&str>) -> Affinity {
    let preferred = node.map(|node| {
        let preference = NodeSelectorTerm { match_expressions: None, match_fields: Some(named(node)) };
        vec![PreferredSchedulingTerm { weight: 100, preference }]
    });
    let mut affinity = on_masters(label, None);
    affinity.node_affinity.get_or_insert_default().preferred_during_scheduling_ignored_during_execution =
        preferred;
    affinity
}

/// On this node and no other.
#[must_use]
pub fn on_node(node: &str) -> Affinity {
    required(vec![NodeSelectorTerm { match_expressions: None, match_fields: Some(named(node)) }])
}

/// What a pod puts up with that has to run on a master.
#[must_use]
pub fn tolerations() -> Vec<Toleration> {
    let tolerate_all = |effect: &str| Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    ["NoSchedule", "NoExecute"].map(tolerate_all).to_vec()
}

fn required(terms: Vec<NodeSelectorTerm>) -> Affinity {
    let node_affinity = NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: terms,
        }),
        ..NodeAffinity::default()
    };
    Affinity { node_affinity: Some(node_affinity), ..Affinity::default() }
}

/// By the node's name and not by its label `kubernetes.io/hostname`, which may be another.
fn named(node: &str) -> Vec<NodeSelectorRequirement> {
    vec![NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_pod_needs_a_master_that_has_the_name() {
        let terms = |affinity: Affinity| {
            let selector =
                affinity.node_affinity.unwrap().required_during_scheduling_ignored_during_execution;
            selector.unwrap().node_selector_terms
        };
        let pinned = terms(on_masters(None, Some("m1")));
        assert!(pinned.len() == 2 && pinned.iter().all(|term| term.match_fields == Some(named("m1"))));
        assert!(terms(on_masters(Some("own"), None)).iter().all(|term| term.match_fields.is_none()));
    }

    #[test]
    fn a_selector_of_nodes_stands_for_the_masters_unless_their_label_is_named_too() {
        assert_eq!(of_backups(None, false, None), Some(on_masters(None, None)));
        assert_eq!(of_backups(None, true, None), None);
        assert_eq!(of_backups(None, true, Some("m1")), Some(on_node("m1")));
        assert_eq!(of_backups(Some("own"), true, None), Some(on_masters(Some("own"), None)));
    }

    #[test]
    fn a_preferred_node_that_is_gone_keeps_no_pod_from_running() {
        let required = |affinity: &Affinity| {
            let node_affinity = affinity.node_affinity.clone().unwrap();
            node_affinity.required_during_scheduling_ignored_during_execution
        };
        for label in [None, Some("own")] {
            let affinity = on_masters_preferably(label, Some("gone"));
            assert_eq!(required(&affinity), required(&on_masters(label, None)));
            let preferred =
                affinity.node_affinity.unwrap().preferred_during_scheduling_ignored_during_execution;
            assert_eq!(preferred.unwrap().len(), 1);
        }
    }
}
