//! Plans that may have a fault, each with the reason.

/// A fault that is none.
#[derive(Clone, Copy)]
pub(crate) struct Exception {
    /// A part of the text that only this statement has.
    pub statement: &'static str,
    /// The beginning of the fault.
    pub fault: &'static str,
    /// The reason, for readers.
    #[expect(dead_code, reason = "read by people")]
    reason: &'static str,
}

/// Functions of the schema, each with the test that reads the plans of its statements.
pub(crate) const FUNCTIONS: [(&str, &str); 4] = [
    ("wall_clock", "reads no table"),
    ("dequeue_account_changes", "functions.rs"),
    ("requeue_throttled_change", "functions.rs"),
    ("requeue_unsent_change", "functions.rs"),
];

pub(crate) const EXCEPTIONS: [Exception; 5] = [
    Exception {
        statement: "DELETE FROM fair_queue",
        fault: "Seq Scan of fair_queue",
        reason: "Runs every ten minutes, over namespaces times gateways. An index by time would \
                 make each write of a served namespace dearer.",
    },
    Exception {
        statement: "WHERE queued AND gateway_id IS NULL AND cluster_id = $1 GROUP BY action",
        fault: "Index Only Scan of operation operation_account_queue",
        reason: "Counts what waits in the account's queues, once a second, from the index alone.",
    },
    Exception {
        statement: "FROM former_address f\n",
        fault: "Index Scan of lease lease_prepaid",
        reason: "The index has only releasing PrePaid leases, and the first that fits ends it.",
    },
    Exception {
        statement: "UPDATE port SET gateway_id = $2 WHERE allocation_id = $1 AND gateway_id <> $2",
        fault: "",
        reason: "Reads the ports of one EIP, when that EIP's offer has changed.",
    },
    Exception {
        statement: "UPDATE port SET state = 'foreign', cooldown_until = NULL FROM f",
        fault: "the plan costs",
        reason: "Reads the ports that foreign entries cover; the planner expects ranges of many.",
    },
];
