//! An operator at the cloud's console, and the changes left behind.

use crate::cloud::{Gateway, console_params};
use crate::cloud_reads;
use crate::world::World;
use simulator::cloud::Target;
use std::net::Ipv4Addr;
use waygate_core::cloud_facts::ForwardEntry;
use waygate_core::ids::AllocationId;
use waygate_core::ownership::read_entry_name;
use waygate_core::plan::Deletion;
use waygate_core::request::Protocol;

/// Offset of an address that no pod ever gets: the console binds EIPs to it and points entries at
/// it.
const FOREIGN_OFFSET: u32 = 45;
/// An external port outside the range that Waygate offers.
const FOREIGN_PORT: u16 = 900;
/// EIPs that an account may have in the end: enough for all pods and all retained leases.
const ENOUGH_EIPS: usize = 60;

impl World {
    /// Something is done in the console.
    pub(crate) fn change_something(&mut self) {
        match self.roll_below(23) {
            0..4 => self.disturb_eip(),
            4..8 => self.delete_entry(),
            8..11 => self.change_entry(),
            11..14 => self.occupy_ports(),
            14 => self.forward_to_pod(),
            15 => self.lock_gateway(),
            16..18 => self.move_gateway_eip(),
            18..20 => self.change_quota(),
            20 => self.use_for_snat(),
            21 => {
                let all = self.list_entries_of_all();
                self.delete_entries(&all);
            }
            _ => self.delete_gateway(),
        }
        self.note_disturbance();
    }

    fn change_at_console(&mut self, action: &str, parameters: &[(&str, String)]) -> bool {
        let done = self.cloud.change_at_console(action, parameters);
        self.note_event(|| format!("console: {action} {parameters:?}: {done:?}"));
        done.is_some()
    }

    /// Lists the EIPs on interfaces, with their private addresses.
    fn list_bound_eips(&mut self) -> Vec<(AllocationId, Option<Ipv4Addr>)> {
        let bound = self
            .cloud
            .at_time(self.now)
            .eips()
            .filter_map(|eip| Some((eip, eip.binding.as_ref()?)));
        let bound = bound.filter(|(_, binding)| binding.target == Target::NetworkInterface);
        bound.map(|(eip, binding)| (AllocationId::new(&eip.id), binding.private_address)).collect()
    }

    /// A pod's EIP is unbound, and perhaps bound elsewhere, or released.
    fn disturb_eip(&mut self) {
        let bound = self.list_bound_eips();
        let Some((id, _)) = self.pick_one(&bound) else { return };
        self.change_at_console("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
        match self.roll_below(3) {
            0 => self.bind_elsewhere(&id),
            1 if !self.is_bought_by_people(&id) => {
                _ = self
                    .change_at_console("ReleaseEipAddress", &[("AllocationId", id.to_string())]);
            }
            _ => {}
        }
    }

    /// A single thing is taken away that a list shows missing.
    pub(crate) fn disturb_once(&mut self) {
        if self.chance(0.5) {
            return self.delete_entry();
        }
        let bound = self.list_bound_eips();
        let Some((id, _)) = self.pick_one(&bound) else { return };
        self.change_at_console("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
    }

    fn bind_elsewhere(&mut self, id: &AllocationId) {
        let Some(ip) = self.foreign_address() else { return };
        let now = self.now;
        if let Some(eni) = self.cloud.read_interface(now, ip) {
            let to = [
                ("InstanceId", eni.eni_id.to_string()),
                ("InstanceType", "NetworkInterface".to_owned()),
            ];
            let what = [("AllocationId", id.to_string()), ("PrivateIpAddress", ip.to_string())];
            self.change_at_console("AssociateEipAddress", &[to, what].concat());
        }
    }

    /// Every forward entry of the cloud, of every maker.
    pub(crate) fn list_entries_of_all(&mut self) -> Vec<ForwardEntry> {
        self.cloud.at_time(self.now).forward_entries().map(cloud_reads::convert_entry).collect()
    }

    fn some_entry(&mut self) -> Option<ForwardEntry> {
        let entries = self.list_entries_of_all();
        self.pick_one(&entries)
    }

    fn delete_entry(&mut self) {
        let Some(entry) = self.some_entry() else { return };
        self.delete_entries(&[entry]);
    }

    fn delete_entries(&mut self, entries: &[ForwardEntry]) {
        for entry in entries {
            self.change_at_console(
                "DeleteForwardEntry",
                &[("ForwardEntryId", entry.entry_id.to_string())],
            );
        }
    }

    /// An entry is pointed elsewhere, called something else, or put on another port.
    fn change_entry(&mut self) {
        let Some(entry) = self.some_entry() else { return };
        let Some(to) = self.foreign_address() else { return };
        let change = match self.roll_below(5) {
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
        self.cloud.ledger.changed_at_console.insert(entry.entry_id.to_string());
        self.change_at_console("ModifyForwardEntry", &what);
    }

    fn some_port(&mut self) -> u16 {
        let keys: Vec<_> = self.store.slots.keys().map(|key| key.2).collect();
        self.pick_one(&keys).unwrap_or(FOREIGN_PORT)
    }

    /// Makes a foreign entry, of one port or of a few, in the range that Waygate offers.
    fn occupy_ports(&mut self) {
        let port = self.some_port();
        let to = self.foreign_address();
        let protocol = if self.chance(0.5) { Protocol::Tcp } else { Protocol::Udp };
        let more = u16::try_from([0, 0, 2][self.roll_below(3)]).unwrap_or(0);
        self.create_foreign_entry(port, more, to, 9000 + port, protocol);
    }

    /// Makes a foreign entry to a pod's port.
    fn forward_to_pod(&mut self) {
        let to = self.pick_address();
        self.create_foreign_entry(FOREIGN_PORT, 0, to, 80, Protocol::Tcp);
    }

    fn create_foreign_entry(
        &mut self,
        external_port: u16,
        more: u16,
        to: Option<Ipv4Addr>,
        internal_port: u16,
        protocol: Protocol,
    ) {
        let gateways = self.cloud.gateways.clone();
        let (Some(gateway), Some(to)) = (self.pick_one(&gateways), to) else { return };
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
        self.change_at_console("CreateForwardEntry", &parameters);
    }

    fn lock_gateway(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let Some(gateway) = self.pick_one(&gateways) else { return };
        let is_locked = self.chance(0.6);
        self.note_event(|| format!("console: {} is locked: {is_locked}", gateway.id));
        drop(self.cloud.console_access().lock_nat_gateway(gateway.id.as_str(), is_locked));
    }

    /// A gateway's EIP is taken from it, with all its entries, or comes to this gateway or to
    /// another.
    fn move_gateway_eip(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let (Some(gateway), Some(to)) = (self.pick_one(&gateways), self.pick_one(&gateways)) else {
            return;
        };
        let id = || ("AllocationId", gateway.eip.to_string());
        if !self.bind_to_gateway(&gateway, &to) {
            self.change_at_console("UnassociateEipAddress", &[id(), ("Force", "true".to_owned())]);
        }
    }

    fn bind_to_gateway(&mut self, eip: &Gateway, to: &Gateway) -> bool {
        let to = [("InstanceId", to.id.to_string()), ("InstanceType", "Nat".to_owned())];
        self.change_at_console(
            "AssociateEipAddress",
            &[vec![("AllocationId", eip.eip.to_string())], to.to_vec()].concat(),
        )
    }

    fn change_quota(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let Some(gateway) = self.pick_one(&gateways) else { return };
        if self.chance(0.3) {
            let mut quotas = self.cloud.console_access().quotas();
            quotas.eips = self.roll_below(8) + 3;
            self.note_event(|| format!("console: {quotas:?}"));
            return self.cloud.console_access().set_quotas(quotas);
        }
        let quota = self.roll_below(6);
        self.note_event(|| format!("console: {} takes {quota} entries", gateway.id));
        drop(self.cloud.console_access().set_entry_quota(gateway.id.as_str(), quota));
    }

    fn use_for_snat(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let Some(gateway) = self.pick_one(&gateways) else { return };
        let what = [
            ("NatGatewayId", gateway.id.to_string()),
            ("SnatIp", gateway.address.to_string()),
            ("SourceCIDR", "10.9.0.0/16".to_owned()),
        ];
        let done = self.cloud.console_access().create_snat_entry(&console_params(&what));
        self.note_event(|| format!("console: SNAT {what:?}: {done:?}"));
    }

    /// Deletes a gateway for good; the other gateway stays.
    fn delete_gateway(&mut self) {
        let gateways = self.cloud.gateways.clone();
        let there = gateways
            .iter()
            .filter(|it| self.cloud.console_access().forward_table(it.id.as_str()).is_some())
            .count();
        let Some(gateway) = self.pick_one(&gateways).filter(|_| there > 1) else { return };
        self.note_event(|| format!("console: {} is deleted", gateway.id));
        drop(self.cloud.console_access().delete_nat_gateway(gateway.id.as_str()));
    }

    /// Ends all disturbances: faults end, terminating pods go, obstacles made at the console are
    /// removed.
    pub(crate) fn end_disturbances(&mut self) {
        self.note_event(|| "calm".to_owned());
        self.faults = false;
        for cluster in 0..self.clusters.len() {
            self.settle_cluster(cluster);
        }
        let elsewhere = self.foreign_address();
        for (id, _) in self.list_bound_eips().into_iter().filter(|(_, ip)| *ip == elsewhere) {
            self.change_at_console("UnassociateEipAddress", &[("AllocationId", id.to_string())]);
        }
        let mut quotas = self.cloud.console_access().quotas();
        quotas.eips = ENOUGH_EIPS;
        self.cloud.console_access().set_quotas(quotas);
        self.restore_gateways();
        let entries: Vec<_> = self
            .cloud
            .at_time(self.now)
            .forward_entries()
            .map(cloud_reads::convert_entry)
            .collect();
        let in_the_way = |entry: &&ForwardEntry| {
            Some(entry.internal_ip) != elsewhere && read_entry_name(&entry.name).is_none()
        };
        for entry in entries.iter().filter(in_the_way) {
            self.change_at_console(
                "DeleteForwardEntry",
                &[("ForwardEntryId", entry.entry_id.to_string())],
            );
        }
        self.note_disturbance();
        self.restart_watch();
    }

    /// Every gateway EIP has a gateway that takes changes; half of the time it takes entries
    /// enough.
    fn restore_gateways(&mut self) {
        let more = self.chance(0.5);
        let gateways = self.cloud.gateways.clone();
        let machine = self.cloud.console_access();
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
    fn settle_cluster(&mut self, cluster: usize) {
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
            let ip = self.pick_free_address();
            self.clusters[cluster].pods.get_mut(name).into_iter().for_each(|pod| pod.ip = ip);
        }
        let swept: Vec<_> = self.clusters[cluster]
            .resources
            .iter()
            .filter(|(_, it)| it.removal == Deletion::Cascaded)
            .map(|(key, _)| key.clone())
            .collect();
        for key in swept {
            if self.chance(0.5) {
                self.clusters[cluster].delete_resource(&key, Deletion::Requested);
            }
        }
    }

    /// Returns an address that only the console binds to.
    pub(crate) fn foreign_address(&self) -> Option<Ipv4Addr> {
        self.network.and_then(|network| network.nth(FOREIGN_OFFSET))
    }
}
