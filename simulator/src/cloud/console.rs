//! Changes made at the cloud's console, which take effect at once and ask neither rates, policies
//! nor tokens.

use serde_json::json;

use super::{Cloud, Outcome, Quotas, dispatch::run_unchecked};
use crate::{
    params::Params,
    profile::{Pace, Profile},
    refusal::Refusal,
};

impl Cloud {
    /// Runs an API action now, its passing states skipped. A forward entry need not name its table.
    pub fn apply_as_console(&mut self, action: &str, params: &Params) -> Outcome {
        let mut pairs = params.pairs_without(&[]);
        let table = params
            .get("ForwardEntryId")
            .and_then(|id| self.entries.get(id))
            .map(|entry| entry.table.clone());
        if let Some(table) = table {
            pairs.entry("ForwardTableId".to_owned()).or_insert(table);
        }
        let mut at_once = Profile::Instant.pace();
        let zero = at_once.call;
        (at_once.association, at_once.release, at_once.entry_pending, at_once.entry_deleting) =
            (zero, zero, zero, zero);
        let pace = std::mem::replace(&mut self.pace, at_once);
        let outcome = run_unchecked(self, action, &Params::new(pairs));
        self.advance_to(self.now);
        self.pace = pace;
        outcome
    }

    /// Deletes the gateway with its entries; EIPs stay, bound to nothing.
    pub fn delete_nat_gateway(&mut self, id: &str) -> Outcome {
        let gateway = self.gateways.remove(id).ok_or_else(no_such_gateway)?;
        self.entries.retain(|_, entry| entry.table != gateway.table);
        self.drop_snat_of_gateway(id);
        let loose: Vec<String> = self.eips_on(id).map(|eip| eip.id.clone()).collect();
        for eip in loose {
            self.drop_binding(&eip);
        }
        Ok(json!({}))
    }

    /// Locks or unlocks a gateway as unpaid bills do.
    pub fn lock_nat_gateway(&mut self, id: &str, is_locked: bool) -> Outcome {
        self.gateways.get_mut(id).ok_or_else(no_such_gateway)?.is_locked = is_locked;
        Ok(json!({}))
    }

    /// Gives access to latencies and strictness from now on; changes under way keep their times.
    pub fn pace_mut(&mut self) -> &mut Pace {
        &mut self.pace
    }

    /// Returns the quotas in force.
    pub fn quotas(&self) -> Quotas {
        self.quotas
    }

    /// Changes the quotas of the account.
    pub fn set_quotas(&mut self, quotas: Quotas) {
        self.quotas = quotas;
    }

    /// Gives one gateway an entry quota of its own.
    pub fn set_entry_quota(&mut self, gateway: &str, quota: usize) -> Outcome {
        self.gateways.get_mut(gateway).ok_or_else(no_such_gateway)?.entry_quota = Some(quota);
        Ok(json!({}))
    }
}

fn no_such_gateway() -> Refusal {
    Refusal::not_found("InvalidNatGatewayId.NotFound", "Specified NAT gateway does not exist.")
}
