//! An operator at the cloud's console, and the changes left behind.

use crate::cloud::{Gateway, params};
use crate::reads;
use crate::world::World;
use simulator::cloud::Target;
use std::net::Ipv4Addr;
use waygate_core::facts::ForwardEntry;
use waygate_core::ids::AllocationId;
use waygate_core::names::read_entry_name;
use waygate_core::plan::Removal;
use waygate_core::request::Protocol;

/// Offset of an address that no pod ever gets: the console binds EIPs to it and points entries at
/// it.
const ELSEWHERE: u32 = 45;
/// An external port out of our range.
const OUTSIDE: u16 = 900;
/// EIPs that an account may have in the end: enough for all pods and all retained leases.
const PLENTY: usize = 60;

impl World {
    /// Something is done in the console.
    pub(crate) fn interfere(&mut self) {
        match self.dice_below(23) {
            0..4 => self.touch_eip(),
            4..8 => self.delete_entry(),
            8..11 => self.change_entry(),
            11..14 => self.occupy_ports(),
            14 => self.forward_to_pod(),
            15 => self.lock_gateway(),
            16..18 => self.move_gateway_eip(),
            18..20 => self.change_quota(),
            20 => self.use_for_snat(),
            21 => {
                let all = self.entries();
                self.delete_entries(&all);
            }
            _ => self.delete_gateway(),
        }
        self.disturb();
    }

    fn by_hand(&mut self, action: &str, parameters: &[(&str, String)]) -> bool {
        let done = self.cloud.by_hand(action, parameters);
        self.note(|| format!("console: {action} {parameters:?}: {done:?}"));
        done.is_some()
    }

    /// Lists the EIPs on interfaces, with their private addresses.
    fn bound_eips(&mut self) -> Vec<(AllocationId, Option<Ipv4Addr>)> {
        let bound =
            self.cloud.at(self.now).eips().filter_map(|eip| Some((eip, eip.binding.as_ref()?)));
        let bound = bound.filter(|(_, binding)| binding.target == Target::NetworkInterface);
        bound.map(|(eip, binding)| (AllocationId::new(&eip.id), binding.private_address)).collect()
    }

    /// A pod's EIP is unbound, and perhaps bound elsewhere, or released.
    fn touch_eip(&mut self) {
        let bound = self.bound_eips();
        let Some((id, _)) = self.one(&bound) else { return };
        self.by_hand("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
        match self.dice_below(3) {
            0 => self.bind_elsewhere(&id),
            1 if !self.is_bought_by_people(&id) => {
                _ = self.by_hand("ReleaseEipAddress", &[("AllocationId", id.to_string())]);
            }
            _ => {}
        }
    }

    fn bind_elsewhere(&mut self, id: &AllocationId) {
        let Some(ip) = self.elsewhere() else { return };
        let now = self.now;
        if let Some(eni) = self.cloud.eni(now, ip) {
            let to = [
                ("InstanceId", eni.eni_id.to_string()),
                ("InstanceType", "NetworkInterface".to_owned()),
            ];
            let what = [("AllocationId", id.to_string()), ("PrivateIpAddress", ip.to_string())];
            self.by_hand("AssociateEipAddress", &[to, what].concat());
        }
    }

    fn entries(&mut self) -> Vec<ForwardEntry> {
        self.cloud.at(self.now).forward_entries().map(reads::entry).collect()
    }

    fn some_entry(&mut self) -> Option<ForwardEntry> {
        let entries = self.entries();
        self.one(&entries)
    }

    fn delete_entry(&mut self) {
        let Some(entry) = self.some_entry() else { return };
        self.delete_entries(&[entry]);
    }

    fn delete_entries(&mut self, entries: &[ForwardEntry]) {
        for entry in entries {
            self.by_hand("DeleteForwardEntry", &[("ForwardEntryId", entry.entry_id.to_string())]);
        }
    }

    /// An entry is pointed elsewhere, called something else, or put on another port.
    fn change_entry(&mut self) {
        let Some(entry) = self.some_entry() else { return };
        let Some(to) = self.elsewhere() else { return };
        let change = match self.dice_below(5) {
            0 => ("InternalIp", to.to_string()),
            1 => ("ForwardEntryName", "legacy-entry".to_owned()),
            _ if entry.external_port.contains('/') => ("InternalIp", to.to_string()),
            _ => ("ExternalPort", self.some_port().to_string()),
        };
        let what = [
            ("ForwardEntryId", entry.entry_id.to_string()),
            ("ForwardTableId", entry.table_id.to_string()),
            change,
        ];
        self.cloud.ledger.touched.insert(entry.entry_id.to_string());
        self.by_hand("ModifyForwardEntry", &what);
    }

    fn some_port(&mut self) -> u16 {
        let keys: Vec<_> = self.store.slots.keys().map(|key| key.2).collect();
        self.one(&keys).unwrap_or(OUTSIDE)
    }

    /// Makes a foreign entry, of one port or of a few, in our range.
    fn occupy_ports(&mut self) {
        let port = self.some_port();
        let to = self.elsewhere();
        let protocol = if self.chance(0.5) { Protocol::Tcp } else { Protocol::Udp };
        let more = u16::try_from([0, 0, 2][self.dice_below(3)]).unwrap_or(0);
        self.enter(port, more, to, 9000 + port, protocol);
    }

    /// Makes a foreign entry to a pod's port.
    fn forward_to_pod(&mut self) {
        let to = self.some_address();
        self.enter(OUTSIDE, 0, to, 80, Protocol::Tcp);
    }

    fn enter(
        &mut self,
        external_port: u16,
        more: u16,
        to: Option<Ipv4Addr>,
        internal_port: u16,
        protocol: Protocol,
    ) {
        let gateways = self.cloud.gateways.clone();
        let (Some(gateway), Some(to)) = (self.one(&gateways), to) else { return };
        let range = |first: u16| {
            if more == 0 { first.to_string() } else { format!("{first}/{}", first + more) }
        };
        let parameters = [
            ("RegionId", "cn-hangzhou".to_owned()),
            ("ForwardTableId", gateway.table_id.to_string()),
            ("ForwardEntryName", "legacy-entry".to_owned()),
            ("ExternalIp", gateway.address.to_string()),
            ("ExternalPort", range(external_port)),
            ("InternalIp", to.to_string()),
            ("InternalPort", range(internal_port)),
            ("IpProtocol", protocol.as_str().to_owned()),
        ];
        self.by_hand("CreateForwardEntry", &parameters);
    }

    fn lock_gateway(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let Some(gateway) = self.one(&gateways) else { return };
        let is_locked = self.chance(0.6);
        self.note(|| format!("console: {} is locked: {is_locked}", gateway.id));
        drop(self.cloud.console().lock_nat_gateway(gateway.id.as_str(), is_locked));
    }

    /// A gateway's EIP is taken from it, with all that stands on it, or comes to this gateway or to
    /// another.
    fn move_gateway_eip(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let (Some(gateway), Some(to)) = (self.one(&gateways), self.one(&gateways)) else { return };
        let id = || ("AllocationId", gateway.eip.to_string());
        if !self.bind_to_gateway(&gateway, &to) {
            self.by_hand("UnassociateEipAddress", &[id(), ("Force", "true".to_owned())]);
        }
    }

    fn bind_to_gateway(&mut self, eip: &Gateway, to: &Gateway) -> bool {
        let to = [("InstanceId", to.id.to_string()), ("InstanceType", "Nat".to_owned())];
        self.by_hand(
            "AssociateEipAddress",
            &[vec![("AllocationId", eip.eip.to_string())], to.to_vec()].concat(),
        )
    }

    fn change_quota(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let Some(gateway) = self.one(&gateways) else { return };
        if self.chance(0.3) {
            let mut quotas = self.cloud.console().quotas();
            quotas.eips = self.dice_below(8) + 3;
            self.note(|| format!("console: {quotas:?}"));
            return self.cloud.console().set_quotas(quotas);
        }
        let quota = self.dice_below(6);
        self.note(|| format!("console: {} takes {quota} entries", gateway.id));
        drop(self.cloud.console().set_entry_quota(gateway.id.as_str(), quota));
    }

    fn use_for_snat(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let Some(gateway) = self.one(&gateways) else { return };
        let what = [
            ("NatGatewayId", gateway.id.to_string()),
            ("SnatIp", gateway.address.to_string()),
            ("SourceCIDR", "10.9.0.0/16".to_owned()),
        ];
        let done = self.cloud.console().create_snat_entry(&params(&what));
        self.note(|| format!("console: SNAT {what:?}: {done:?}"));
    }

    /// Deletes a gateway for good; the other gateway stays.
    fn delete_gateway(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let there = gateways
            .iter()
            .filter(|it| self.cloud.console().forward_table(it.id.as_str()).is_some())
            .count();
        let Some(gateway) = self.one(&gateways).filter(|_| there > 1) else { return };
        self.note(|| format!("console: {} is deleted", gateway.id));
        drop(self.cloud.console().delete_nat_gateway(gateway.id.as_str()));
    }

    /// Ends all disturbances: faults end, terminating pods go, obstacles made at the console are
    /// removed.
    pub(crate) fn calm(&mut self) {
        self.note(|| "calm".to_owned());
        self.faults = false;
        for cluster in 0..self.clusters.len() {
            self.calm_cluster(cluster);
        }
        let elsewhere = self.elsewhere();
        for (id, _) in self.bound_eips().into_iter().filter(|(_, ip)| *ip == elsewhere) {
            self.by_hand("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
        }
        let mut quotas = self.cloud.console().quotas();
        quotas.eips = PLENTY;
        self.cloud.console().set_quotas(quotas);
        self.calm_gateways();
        let entries: Vec<_> = self.cloud.at(self.now).forward_entries().map(reads::entry).collect();
        let in_the_way = |entry: &&ForwardEntry| {
            Some(entry.internal_ip) != elsewhere && read_entry_name(&entry.name).is_none()
        };
        for entry in entries.iter().filter(in_the_way) {
            self.by_hand("DeleteForwardEntry", &[("ForwardEntryId", entry.entry_id.to_string())]);
        }
        self.disturb();
        self.relist();
    }

    /// Every gateway EIP has a gateway that takes changes; half of the time it takes entries
    /// enough.
    fn calm_gateways(&mut self) {
        let more = self.chance(0.5);
        let gateways = self.cloud.gateways.clone();
        let machine = self.cloud.console();
        for gateway in &gateways {
            drop(machine.lock_nat_gateway(gateway.id.as_str(), false));
            if more {
                drop(machine.set_entry_quota(gateway.id.as_str(), 100));
            }
        }
        for (eip, to) in gateways.iter().flat_map(|eip| gateways.iter().map(move |to| (eip, to))) {
            self.bind_to_gateway(eip, to);
        }
    }

    /// Pods that were going are gone, those without an address get one, and half of what an
    /// uninstallation deleted is meant to go.
    fn calm_cluster(&mut self, cluster: usize) {
        let pods = |world: &Self| {
            world.clusters[cluster]
                .pods
                .iter()
                .map(|(name, pod)| (name.clone(), pod.clone()))
                .collect::<Vec<_>>()
        };
        for (name, _) in pods(self).iter().filter(|(_, pod)| pod.terminating) {
            drop(self.clusters[cluster].remove_pod(name));
        }
        for (name, _) in pods(self).iter().filter(|(_, pod)| pod.ip.is_none()) {
            let ip = self.free_address();
            self.clusters[cluster].pods.get_mut(name).into_iter().for_each(|pod| pod.ip = ip);
        }
        let swept: Vec<_> = self.clusters[cluster]
            .resources
            .iter()
            .filter(|(_, it)| it.removal == Removal::Swept)
            .map(|(key, _)| key.clone())
            .collect();
        for key in swept {
            if self.chance(0.5) {
                self.clusters[cluster].delete_resource(&key, Removal::Asked);
            }
        }
    }

    /// Returns an address that only the console binds to.
    pub(crate) fn elsewhere(&self) -> Option<Ipv4Addr> {
        self.network.and_then(|network| network.nth(ELSEWHERE))
    }
}
