//! What is a fault in a plan: a table that grows with the leases is read beyond the wanted rows.

use crate::plans::fill::Tables;
use anyhow::Result;
use serde_json::Value;
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};

/// Highest cost of a plan, and of any scan in it. A lookup in an index costs about 8, a sequential
/// scan of a million leases 80,000, of the smallest table that grows with them 600.
const MAX_COST: f64 = 4_000.0;
/// Most rows that a plan sorts, by the planner's estimate.
const MAX_SORTED: f64 = 2_000.0;
/// Columns by which alone no rows are found: a cluster, or a namespace, may have all the leases.
const WEAK: [&str; 6] = ["cluster_id", "kind", "namespace", "phase", "proto", "state"];

/// Knows which tables grow with the leases, and their indexes.
pub(crate) struct Judge {
    large: BTreeSet<String>,
    indexes: BTreeMap<String, Index>,
}

/// An index: its key columns in their order, and the condition of a partial one.
#[derive(sqlx::FromRow)]
struct Index {
    name: String,
    keys: Vec<String>,
    predicate: Option<String>,
}

/// One scan of a plan.
struct Scan<'a> {
    node: &'a Value,
    /// True under a LIMIT, with nothing in between that reads all its input.
    limited: bool,
}

impl Judge {
    pub(crate) async fn new(connection: &mut PgConnection, tables: &Tables) -> Result<Self> {
        let indexes: Vec<Index> = sqlx::query_as(
            "SELECT indexrelid::regclass::text AS name, array_agg(pg_get_indexdef(indexrelid, n, true) ORDER BY n) AS keys,
               pg_get_expr(indpred, indrelid) AS predicate
             FROM pg_index JOIN pg_class c ON c.oid = indrelid, generate_series(1, indnkeyatts) n
             WHERE c.relnamespace = 'public'::regnamespace GROUP BY indexrelid, indpred, indrelid",
        )
        .fetch_all(connection)
        .await?;
        let by_name = indexes.into_iter().map(|index| (index.name.clone(), index));
        Ok(Self { large: tables.large.clone(), indexes: by_name.collect() })
    }

    /// Lists the faults of a plan.
    pub(crate) fn find_faults(&self, plan: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let cost = number(plan, "Total Cost");
        if cost > MAX_COST {
            faults.push(format!("the plan costs {cost}"));
        }
        self.visit(plan, "", false, &mut faults);
        faults
    }

    fn visit(&self, node: &Value, table: &str, limited: bool, faults: &mut Vec<String>) {
        let kind = text(node, "Node Type");
        // A bitmap's index scan does not name the table: the node above it does.
        let table = node["Relation Name"].as_str().unwrap_or(table);
        if kind == "Sort" && number(node, "Plan Rows") > MAX_SORTED {
            faults.push(format!("sorts {} rows", node["Plan Rows"]));
        }
        if kind.contains("Scan") && self.large.contains(table) {
            self.judge_scan(&Scan { node, limited }, table, faults);
        }
        let limited = match kind {
            "Limit" => true,
            "LockRows" | "Result" | "Bitmap Heap Scan" => limited,
            _ => false,
        };
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.visit(child, table, limited, faults);
        }
    }

    fn judge_scan(&self, scan: &Scan<'_>, table: &str, faults: &mut Vec<String>) {
        let (kind, index) = (text(scan.node, "Node Type"), text(scan.node, "Index Name"));
        let mut fault = |what: String| faults.push(format!("{kind} of {table} {index}: {what}"));
        if kind == "Seq Scan" {
            return fault("reads the whole table".to_owned());
        }
        let cost = number(scan.node, "Total Cost");
        if cost > MAX_COST && !scan.limited {
            fault(format!("costs {cost}"));
        }
        let Some(index) = self.indexes.get(index) else { return };
        let (condition, filter) = (text(scan.node, "Index Cond"), scan.node["Filter"].as_str());
        if scan.limited {
            // In the order of the index: each row read must be a row wanted. A row that is to be
            // locked is compared with the condition of the index once more.
            if filter.is_some_and(|filter| index.predicate.as_deref() != Some(filter)) {
                fault(format!("skips rows up to its limit: {filter:?}"));
            }
            return;
        }
        let used = index.used_keys(condition);
        if used.iter().all(|key| WEAK.contains(key)) {
            fault(format!("finds no rows by themselves: {condition:?}"));
        }
        let leading = index.keys.iter().take_while(|key| used.contains(&key.as_str()));
        if leading.count() < used.len() {
            fault(format!("condition beyond a key that it leaves open: {condition:?}"));
        }
    }
}

impl Index {
    /// The keys that the condition is about.
    fn used_keys(&self, condition: &str) -> Vec<&str> {
        let words: BTreeSet<_> =
            condition.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        self.keys.iter().map(String::as_str).filter(|key| words.contains(key)).collect()
    }
}

fn number(node: &Value, key: &str) -> f64 {
    node[key].as_f64().unwrap_or_default()
}

fn text<'a>(node: &'a Value, key: &str) -> &'a str {
    node[key].as_str().unwrap_or_default()
}
