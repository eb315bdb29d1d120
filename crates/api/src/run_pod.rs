//! The schemas of what a policy may say of the pods of its backups.
//!
//! Quantities are typed dynamically, for a number stands for itself: the API server estimates the cost of a rule about one from the
//! largest request that it takes. So their number is small, and the rules are few.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Resources that a policy may name: processor, memory, ephemeral storage, and one that a device plugin offers.
const MAX_RESOURCES: usize = 4;
const MAX_LABELS: usize = 16;
const MAX_TOLERATIONS: usize = 16;

/// Schema of `spec.resources`.
pub fn resources(_: &mut SchemaGenerator) -> Schema {
    let quantities = |description: &str| {
        json_schema!({
            "type": "object",
            "description": description,
            "maxProperties": MAX_RESOURCES,
            "additionalProperties": {
                "x-kubernetes-int-or-string": true,
                "x-kubernetes-validations": [{
                    "rule": "isQuantity(string(self)) && !quantity(string(self)).isLessThan(quantity('0'))",
                    "message": "resources: expected quantities, such as 500m, 2, 512Mi",
                }],
            },
        })
    };
    json_schema!({
        "type": "object",
        "properties": {
            "requests": quantities("What the scheduler sets aside for the pod. Default: its limits."),
            "limits": quantities("What the pod may use at most."),
        },
        "x-kubernetes-validations": [
            {
                "rule": "has(self.requests) || has(self.limits)",
                "message": "resources: expected requests, limits or both",
            },
            {
                "rule": "!has(self.limits) || !('memory' in self.limits) || !isQuantity(string(self.limits['memory'])) \
                         || quantity(string(self.limits['memory'])).compareTo(quantity('256Mi')) >= 0",
                "message": "resources.limits.memory: expected 256Mi or more, since opening a repository takes 128 MiB",
            },
            {
                "rule": "!has(self.limits) || !has(self.requests) || self.requests.all(k, !(k in self.limits) \
                         || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)",
                "message": "resources.requests: expected no more than resources.limits",
            },
        ],
    })
}

/// Schema of `spec.nodeSelector`.
pub fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "x-kubernetes-validations": [
            {
                "rule": "self.size() > 0",
                "message": "nodeSelector: expected at least one label; kubernetes.io/os: linux takes any node",
            },
            {
                "rule": "self.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",
                "message": "nodeSelector: expected the names of labels, such as node-role.kubernetes.io/etcd",
            },
            {
                "rule": "self.all(k, self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'))",
                "message": "nodeSelector: expected values of labels: letters, digits, -, _ and .",
            },
        ],
    })
}

/// Schema of `spec.tolerations`.
pub fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_TOLERATIONS,
        "x-kubernetes-list-type": "atomic",
        "items": {
            "type": "object",
            "properties": {
                "key": {
                    "type": "string",
                    "maxLength": 317,
                    "description": "Key of the taints. Absent, with `operator: Exists`: any.",
                },
                "operator": {
                    "type": "string",
                    "enum": ["Exists", "Equal"],
                    "description": "`Exists`: taints of any value. Default: `Equal`, those of this value.",
                },
                "value": { "type": "string", "maxLength": 63, "description": "Value of the taints." },
                "effect": {
                    "type": "string",
                    "enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
                    "description": "Effect of the taints. Absent: any.",
                },
                "tolerationSeconds": {
                    "type": "integer",
                    "format": "int64",
                    "description": "How long a taint `NoExecute` is put up with. Default: for ever.",
                },
            },
            "x-kubernetes-validations": [
                {
                    "rule": "(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
                    "message": "tolerations: expected a key, or operator: Exists",
                },
                {
                    "rule": "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
                    "message": "tolerations: expected no value beside operator: Exists",
                },
                {
                    "rule": "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                    "message": "tolerations: expected effect: NoExecute beside tolerationSeconds",
                },
            ],
        },
    })
}
