//! Ports and protocols of forward entries.

use std::{fmt, str::FromStr};

/// `80`, `80/90` or `Any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The whole address is mapped.
    Any,
    /// From the first to the last, both included.
    Range(u16, u16),
}

/// Protocol of the forwarded traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Forwards TCP segments only.
    Tcp,
    /// Forwards UDP datagrams only.
    Udp,
    /// Everything; only with ports `Any`.
    Any,
}

/// Text that is no port, range, or protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Ports {
    /// Counts the ports; `Any` counts as zero and equals only another `Any`.
    pub fn count(self) -> usize {
        match self {
            Self::Any => 0,
            Self::Range(from, to) => usize::from(to - from) + 1,
        }
    }

    /// True if the whole address is mapped.
    pub fn is_any(self) -> bool {
        self == Self::Any
    }

    /// True if the two share a port.
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::Range(from, to), Self::Range(start, end)) => from <= end && start <= to,
            _ => true,
        }
    }

    /// Returns the last port of the range.
    pub fn highest(self) -> u16 {
        match self {
            Self::Any => u16::MAX,
            Self::Range(_, to) => to,
        }
    }
}

impl Protocol {
    /// True if one packet could match both.
    pub fn overlaps(self, other: Self) -> bool {
        self == other || self == Self::Any || other == Self::Any
    }
}

impl FromStr for Ports {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        let (from, to) = text.split_once('/').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or(Malformed);
        let (from, to) = (port(from)?, port(to)?);
        if from > to { Err(Malformed) } else { Ok(Self::Range(from, to)) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("Any"),
            Self::Range(from, to) if from == to => write!(f, "{from}"),
            Self::Range(from, to) => write!(f, "{from}/{to}"),
        }
    }
}

impl FromStr for Protocol {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "any" => Ok(Self::Any),
            _ => Err(Malformed),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Any => "Any",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_print_as_they_were_read() {
        for text in ["1", "65535", "7000/7009", "Any"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        for text in ["0", "65536", "9/8", "7000-7009", "", "1/"] {
            assert_eq!(text.parse::<Ports>(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn ranges_overlap_where_they_share_a_port() {
        let ports = |text: &str| text.parse::<Ports>().unwrap();
        assert!(ports("10/20").overlaps(ports("20/30")) && !ports("10/20").overlaps(ports("21")));
        assert!(ports("Any").overlaps(ports("5")));
    }
}
