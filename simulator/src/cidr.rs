//! An IPv4 network and its arithmetic: enough for VPCs, vSwitches, pod CIDRs and /28 prefixes.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// `10.1.0.0/24`. Host bits are always zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: u32,
    length: u8,
}

impl Cidr {
    /// The network of `length` bits that contains `address`.
    pub fn containing(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { base: address.to_bits() & Self::mask(length), length }
    }

    fn mask(length: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
    }

    /// True if the address lies inside.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & Self::mask(self.length) == self.base
    }

    /// True if the whole of `other` lies inside.
    pub fn covers(self, other: Self) -> bool {
        self.length <= other.length && self.contains(Ipv4Addr::from_bits(other.base))
    }

    /// Returns the number of addresses, network and broadcast address included.
    pub fn size(self) -> u64 {
        1 << (32 - u32::from(self.length))
    }

    /// The address at this offset, if inside.
    pub fn nth(self, offset: u32) -> Option<Ipv4Addr> {
        (u64::from(offset) < self.size()).then(|| Ipv4Addr::from_bits(self.base + offset))
    }

    /// Returns the address' distance from the network's first address.
    pub fn offset(self, address: Ipv4Addr) -> u32 {
        address.to_bits().wrapping_sub(self.base)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.base), self.length)
    }
}

/// Text that is no IPv4 network.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an IPv4 network such as 10.1.0.0/24, host bits zero")]
pub struct NotACidr(String);

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let refuse = || NotACidr(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(refuse)?;
        let address: Ipv4Addr = address.parse().map_err(|_| refuse())?;
        let length: u8 = length.parse().map_err(|_| refuse())?;
        let network = Self::containing(address, length);
        if length > 32 || network.base != address.to_bits() { Err(refuse()) } else { Ok(network) }
    }
}

impl TryFrom<String> for Cidr {
    type Error = NotACidr;

    fn try_from(text: String) -> Result<Self, NotACidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_their_addresses() {
        let net: Cidr = "10.4.0.0/24".parse().unwrap();
        assert!(
            net.contains("10.4.0.255".parse().unwrap())
                && !net.contains("10.4.1.0".parse().unwrap())
        );
        assert_eq!(net.nth(16).unwrap().to_string(), "10.4.0.16");
        assert_eq!(net.nth(256), None);
        assert_eq!(Cidr::containing("10.4.0.37".parse().unwrap(), 28).to_string(), "10.4.0.32/28");
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().covers(net));
    }

    #[test]
    fn host_bits_and_long_masks_are_refused() {
        for text in ["10.4.0.1/24", "10.4.0.0/33", "10.4.0.0", "x/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
