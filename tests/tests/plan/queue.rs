//! Gateway locks and queues, as the store keeps them: the changes that wait at a gateway, and the
//! process that sends them.

use crate::operations::Asked;
use crate::store::{Claim, Done, No, Row, Store};
use jiff::{SignedDuration, Timestamp};
use simulator::dice::Dice;
use std::net::Ipv4Addr;
use uuid::Uuid;
use waygate_core::change::Change;
use waygate_core::ids::{LeaseId, NatGatewayId};
use waygate_core::operation::{Ask, Operation, Refused};
use waygate_core::rules::timing::{CALL, FENCE, GATEWAY_LOCK};

/// A gateway lock that a process holds for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub gateway: NatGatewayId,
    owner: Uuid,
    epoch: u64,
}

/// The lock's row: owner, epoch and expiry.
#[derive(Clone, Debug)]
pub(crate) struct LaneRow {
    owner: Option<Uuid>,
    epoch: u64,
    pub until: Timestamp,
}

/// The change that a gateway sender sends next.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub operation: Operation,
    pub lease: LeaseId,
    /// An earlier send of it was not answered and may still take effect.
    pub may_still_arrive: bool,
    pub agains: i32,
}

impl Store {
    pub(crate) fn queue(
        &mut self,
        now: Timestamp,
        claim: &Claim,
        gateway: &NatGatewayId,
        asks: &[Ask],
    ) -> Result<usize, No> {
        if self.held(claim)?.due <= now {
            return Err(No::ClaimLost);
        }
        let mut queued = 0;
        for ask in asks {
            if let Some(asked) = self.ask(now, claim.lease_id, &ask.resource, &ask.change) {
                (asked.lane, asked.queued) = (Some(gateway.clone()), true);
                queued += 1;
            }
        }
        Ok(queued)
    }

    pub(crate) fn unqueue(&mut self, claim: &Claim, id: Uuid) -> Done {
        let Some(asked) = self.asked(claim, id)?.filter(|asked| asked.queued) else {
            return Ok(());
        };
        asked.queued = false;
        if asked.sends == 0 {
            self.operations.retain(|asked| asked.operation.id != id);
        }
        Ok(())
    }

    pub(crate) fn requeue(&mut self, now: Timestamp, claim: &Claim, id: Uuid) -> Done {
        let gateway = self.held(claim)?.lease.ports.first().map(|port| port.gateway_id.clone());
        if let Some(asked) = self.asked(claim, id)?.filter(|asked| asked.answer_by <= now) {
            asked.lane = asked.lane.take().or(gateway);
            asked.queued = asked.lane.is_some();
        }
        Ok(())
    }

    /// Lists the changes that wait at a gateway.
    pub(crate) fn waiting<'a>(
        &'a self,
        gateway: &'a NatGatewayId,
    ) -> impl Iterator<Item = &'a Asked> {
        self.operations
            .iter()
            .filter(move |asked| asked.queued && asked.lane.as_ref() == Some(gateway))
    }

    /// Earliest time at which a queue whose gateway lock is held may be served.
    pub(crate) fn lane_due(&self) -> Option<Timestamp> {
        let lanes = self.lanes.iter().filter(|(gateway, _)| self.waiting(gateway).next().is_some());
        lanes.map(|(_, lane)| lane.until).min()
    }

    /// Takes a free gateway lock; leases whose changes were under way at the gateway are woken.
    pub(crate) fn take_lane(
        &mut self,
        now: Timestamp,
        owner: Uuid,
        gateway: &NatGatewayId,
    ) -> Option<Lane> {
        let row = self.lanes.entry(gateway.clone()).or_insert(LaneRow {
            owner: None,
            epoch: 0,
            until: now,
        });
        if row.until > now {
            return None;
        }
        row.epoch += 1;
        (row.owner, row.until) = (Some(owner), now + GATEWAY_LOCK);
        let lane = Lane { gateway: gateway.clone(), owner, epoch: row.epoch };
        let under_way = self
            .operations
            .iter()
            .filter(|asked| !asked.queued && asked.lane.as_ref() == Some(gateway));
        for lease in under_way.map(|asked| asked.lease).collect::<Vec<_>>() {
            self.wake_lease(now, lease);
        }
        Some(lane)
    }

    /// Renews the owner's gateway locks that have not expired.
    pub(crate) fn renew_lanes(&mut self, now: Timestamp, owner: Uuid) {
        for row in self.lanes.values_mut().filter(|row| row.owner == Some(owner) && row.until > now)
        {
            row.until = now + GATEWAY_LOCK;
        }
    }

    fn lane_held(&mut self, now: Timestamp, lane: &Lane) -> Result<&mut LaneRow, No> {
        let held = |row: &&mut LaneRow| {
            row.owner == Some(lane.owner) && row.epoch == lane.epoch && row.until > now
        };
        self.lanes.get_mut(&lane.gateway).filter(held).ok_or(No::LaneLost)
    }

    /// Marks a change as sent: urgent deletions first, then one chosen by the dice.
    pub(crate) fn next_in_lane(
        &mut self,
        now: Timestamp,
        lane: &Lane,
        creations: bool,
        dice: &mut Dice,
    ) -> Result<Option<Taken>, No> {
        let row = self.lane_held(now, lane)?;
        row.until = row.until.max(now + GATEWAY_LOCK);
        let may = |asked: &&Asked| {
            creations || !matches!(asked.operation.change, Change::CreateForwardEntry(_))
        };
        let waiting: Vec<_> = self
            .waiting(&lane.gateway)
            .filter(may)
            .map(|asked| (asked.urgent, asked.operation.id))
            .collect();
        let urgent = waiting.iter().any(|(urgent, _)| *urgent);
        let next: Vec<_> = waiting.into_iter().filter(|(is, _)| *is == urgent).collect();
        let Some(index) = usize::try_from(dice.roll()).unwrap_or(0).checked_rem(next.len()) else {
            return Ok(None);
        };
        let id = next[index].1;
        let Some(asked) = self.operations.iter_mut().find(|asked| asked.operation.id == id) else {
            return Ok(None);
        };
        let may_still_arrive = asked.sends > 0 && asked.operation.fence_until >= now;
        (asked.queued, asked.sends, asked.answer_by) = (false, asked.sends + 1, now + CALL);
        asked.operation.misses = 0;
        asked.operation.fence_until = asked.operation.fence_until.max(now + FENCE);
        Ok(Some(Taken {
            operation: asked.operation.clone(),
            lease: asked.lease,
            may_still_arrive,
            agains: asked.agains,
        }))
    }

    /// The gateway was busy: queued anew in the old place, as another operation unless an earlier
    /// send may still arrive.
    pub(crate) fn again(&mut self, now: Timestamp, lane: &Lane, taken: &Taken) -> Done {
        self.lane_held(now, lane)?;
        let new = self.id();
        let known = |asked: &&mut Asked| asked.operation.id == taken.operation.id && !asked.queued;
        let Some(asked) = self.operations.iter_mut().find(known) else { return Ok(()) };
        (asked.queued, asked.agains, asked.answer_by) = (true, asked.agains + 1, now);
        if !taken.may_still_arrive {
            asked.sends = 0;
            (asked.operation.id, asked.operation.fence_until, asked.operation.misses) =
                (new, now, 0);
        }
        Ok(())
    }

    /// No answer will come, or none that ends it.
    pub(crate) fn lost(&mut self, now: Timestamp, id: Uuid) {
        let Some(asked) = self.operations.iter_mut().find(|asked| asked.operation.id == id) else {
            return;
        };
        asked.answer_by = now;
        let lease = asked.lease;
        self.wake_lease(now, lease);
    }

    pub(crate) fn leave_word(&mut self, lease: LeaseId, refused: Refused) {
        if let Some(row) = self.rows.get_mut(&lease) {
            row.refused = Some(refused);
        }
    }

    /// The gateway takes no more entries: leases that wait to make some there look for themselves.
    pub(crate) fn wake_queue(&mut self, now: Timestamp, gateway: &NatGatewayId) {
        let new = self
            .waiting(gateway)
            .filter(|asked| matches!(asked.operation.change, Change::CreateForwardEntry(_)));
        for lease in new.map(|asked| asked.lease).collect::<Vec<_>>() {
            self.wake_lease(now, lease);
        }
    }

    /// Another pod has an address that other leases' entries still point to.
    pub(crate) fn hurry(&mut self, now: Timestamp, waiting: LeaseId, ip: Ipv4Addr) {
        let points = |row: &&Row| {
            row.lease.target.as_ref().is_some_and(|target| target.private_ip == ip)
                && !row.lease.ports.is_empty()
        };
        let holders: Vec<_> = self
            .rows
            .values()
            .filter(points)
            .map(|row| row.lease.id)
            .filter(|id| *id != waiting)
            .collect();
        for asked in self
            .operations
            .iter_mut()
            .filter(|asked| asked.queued && holders.contains(&asked.lease))
        {
            asked.urgent |= !matches!(asked.operation.change, Change::CreateForwardEntry(_));
        }
        for id in holders {
            let idle = !self.operations.iter().any(|asked| asked.lease == id);
            let late = |row: &&mut Row| {
                row.owner.is_none() && row.due > now + SignedDuration::from_secs(1)
            };
            let Some(row) = self.rows.get_mut(&id).filter(late).filter(|_| idle) else { continue };
            row.news(now);
            row.lease.parted_at = row.lease.parted_at.map(|_| Timestamp::UNIX_EPOCH);
        }
    }
}
