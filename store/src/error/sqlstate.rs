//! What a SQLSTATE says about the next try. The classes and codes are those of PostgreSQL's
//! documentation, appendix A, of versions 15 to 18.

/// Chance of the same call later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transience {
    /// No statement gets through: the server is away, starting, a standby, or out of room. Every
    /// caller waits for it, and none is at fault.
    Outage,
    /// This statement met a moment's obstacle, such as a deadlock or a lock: soon it may succeed.
    Passing,
    /// The statement or its values are refused, each time again.
    Permanent,
}

use Transience::{Outage, Passing, Permanent};

/// Every class of appendix A, and before it the codes that differ from their class.
const SQLSTATES: &[(&str, Transience)] = &[
    ("00", Permanent),    // successful completion: never an error
    ("01", Permanent),    // warning
    ("02", Permanent),    // no data
    ("03", Permanent),    // SQL statement not yet complete
    ("08", Outage),       // connection exception
    ("09", Permanent),    // triggered action exception
    ("0A", Permanent),    // feature not supported
    ("0B", Permanent),    // invalid transaction initiation
    ("0F", Permanent),    // locator exception
    ("0L", Permanent),    // invalid grantor
    ("0P", Permanent),    // invalid role specification
    ("0Z", Permanent),    // diagnostics exception
    ("10", Permanent),    // XQuery error
    ("20", Permanent),    // case not found
    ("21", Permanent),    // cardinality violation
    ("22", Permanent),    // data exception: a NUL in a text, an invalid JSON
    ("23", Permanent),    // integrity constraint violation
    ("24", Permanent),    // invalid cursor state
    ("25006", Outage),    // read-only transaction: the server has become a standby
    ("25P03", Passing),   // idle in transaction session timeout
    ("25P04", Passing),   // transaction timeout
    ("25", Permanent),    // invalid transaction state
    ("26", Permanent),    // invalid SQL statement name
    ("27", Permanent),    // triggered data change violation
    ("28", Outage),       // invalid authorization: a password is being changed
    ("2B", Permanent),    // dependent privilege descriptors still exist
    ("2D", Permanent),    // invalid transaction termination
    ("2F", Permanent),    // SQL routine exception
    ("34", Permanent),    // invalid cursor name
    ("38", Permanent),    // external routine exception
    ("39", Permanent),    // external routine invocation exception
    ("3B", Permanent),    // savepoint exception
    ("3D", Outage),       // invalid catalog name: the database is being restored
    ("3F", Permanent),    // invalid schema name
    ("40002", Permanent), // transaction integrity constraint violation
    ("40", Passing),      // transaction rollback: serialization failure, deadlock
    ("42", Permanent),    // syntax error or access rule violation
    ("44", Permanent),    // WITH CHECK OPTION violation
    ("53200", Passing),   // out of memory: perhaps for this statement alone
    ("53400", Permanent), // configuration limit exceeded: by this statement
    ("53", Outage),       // insufficient resources: disk full, too many connections
    ("54", Permanent),    // program limit exceeded
    ("55006", Passing),   // object in use
    ("55P03", Passing),   // lock not available
    ("55", Permanent),    // object not in prerequisite state
    ("57014", Passing),   // query canceled: statement timeout
    ("57P05", Passing),   // idle session timeout
    ("57", Outage),       // operator intervention: shutdown, starting up
    ("58P01", Permanent), // undefined file
    ("58P02", Permanent), // duplicate file
    ("58", Passing),      // system error: perhaps in the blocks of this object alone
    ("72", Passing),      // snapshot failure
    ("F0", Permanent),    // configuration file error
    ("HV", Permanent),    // foreign data wrapper error
    ("P0", Permanent),    // PL/pgSQL error
    ("XX", Permanent),    // internal error: corrupted data or index
];

/// Transience of a SQLSTATE; one that appendix A does not know is permanent.
pub(super) fn classify_sqlstate(sqlstate: &str) -> Transience {
    let row = SQLSTATES.iter().find(|(prefix, _)| sqlstate.starts_with(prefix));
    row.map_or(Permanent, |(_, transience)| *transience)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_row_of_the_table_decides_its_class_or_code() {
        for (prefix, transience) in SQLSTATES {
            // A code of the class that has no row of its own.
            let code =
                if prefix.len() == 2 { format!("{prefix}ZZZ") } else { (*prefix).to_owned() };
            assert_eq!(classify_sqlstate(&code), *transience, "{code}");
        }
        let prefixes: BTreeSet<_> = SQLSTATES.iter().map(|(prefix, _)| prefix).collect();
        assert_eq!(prefixes.len(), SQLSTATES.len(), "a row is there twice");
    }

    #[test]
    fn codes_come_before_their_class_and_every_code_has_one() {
        for (i, (code, _)) in SQLSTATES.iter().enumerate().filter(|(_, row)| row.0.len() == 5) {
            assert!(SQLSTATES[i..].iter().any(|(class, _)| *class == &code[..2]), "{code}");
        }
        assert_eq!([classify_sqlstate(""), classify_sqlstate("99999")], [Permanent, Permanent]);
    }
}
