//! Which hosts manifests may have files fetched from.
//!
//! Whoever may write a manifest may not own the network that the operator runs in: what is not reached from the
//! internet (this machine, its neighbours, the metadata service of a cloud) is reached only where a setting names it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Hosts of the plant's own network that manifests may name. Hosts of the internet need no rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRules(Vec<HostRule>);

/// One host, or one network, at every port or at one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostRule {
    host: RuledHost,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RuledHost {
    /// In lower case, without a dot at its end.
    Name(String),
    /// The addresses whose first `bits` bits are those of `address`.
    Network { address: IpAddr, bits: u8 },
}

/// A text that is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a host name nor an address nor a network, with a port behind it or without one")]
pub struct InvalidHostRule(pub String);

impl HostRules {
    /// Reads rules with commas or white space between them: `nas.plant`, `10.0.0.7`, `10.0.0.0/8`, `[fd00::7]`,
    /// `fd00::/8`, each for every port, or with `:8443` behind it for one. An IPv6 address with a port needs brackets.
    ///
    /// # Errors
    /// The first text that is none.
    pub fn parse(text: &str) -> Result<Self, InvalidHostRule> {
        let items = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty());
        let rule = |item: &str| HostRule::parse(item).ok_or_else(|| InvalidHostRule(item.to_owned()));
        Ok(HostRules(items.map(rule).collect::<Result<_, _>>()?))
    }

    /// The same rules and one more, for a host as a URL has it.
    #[must_use]
    pub fn with(mut self, host: &str, port: u16) -> Self {
        self.0.extend(RuledHost::parse(unbracketed(host)).map(|host| HostRule { host, port: Some(port) }));
        self
    }

    /// Whether a connection may be made to this address, which is what `host` was resolved to.
    pub fn may_reach(&self, host: &str, address: IpAddr, port: u16) -> bool {
        let host = name(unbracketed(host));
        !is_internal(address)
            || self.0.iter().any(|rule| {
                rule.port.is_none_or(|only| only == port)
                    && match &rule.host {
                        RuledHost::Name(name) => *name == host,
                        RuledHost::Network { address: network, bits } => {
                            let meant = [Some(address.to_canonical()), embedded(address).map(IpAddr::V4)];
                            meant.into_iter().flatten().any(|address| shares(address, *network, *bits))
                        }
                    }
            })
    }
}

impl HostRule {
    fn parse(text: &str) -> Option<Self> {
        // An IPv6 address without brackets has no port, whatever its last group looks like.
        if let Some(host) = RuledHost::parse(text) {
            return Some(HostRule { host, port: None });
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => text.split_at(text.rfind(':')?),
        };
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse::<u16>().ok().filter(|port| *port != 0)?),
        };
        Some(HostRule { host: RuledHost::parse(host)?, port })
    }
}

impl RuledHost {
    fn parse(text: &str) -> Option<Self> {
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse::<u8>().ok().filter(|bits| *bits <= width(address))?;
            return Some(RuledHost::Network { address, bits });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(RuledHost::Network { address: address.to_canonical(), bits: width(address.to_canonical()) });
        }
        let name = name(text);
        let fits = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        // What consists of digits alone is an address that was cut short.
        let named = name.split('.').all(fits) && name.bytes().any(|byte| byte.is_ascii_alphabetic());
        named.then_some(RuledHost::Name(name))
    }
}

fn name(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Whether the first bits of two addresses of one family are the same.
fn shares(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            bits == 0 || (address.to_bits() ^ network.to_bits()) >> (32 - u32::from(bits)) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            bits == 0 || (address.to_bits() ^ network.to_bits()) >> (128 - u32::from(bits)) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Networks of IPv4 that are not the internet (IANA IPv4 Special-Purpose Address Registry), multicast and what is
/// reserved among them. Nobody has a device model there who does not also have it in a plant's own network.
const INTERNAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// All that is the internet in IPv6 (IANA IPv6 Global Unicast Address Assignments).
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What of it is not: the protocols' own addresses, Teredo with an address of IPv4 in disguise among them, and two
/// networks for documentation (IANA IPv6 Special-Purpose Address Registry).
const INTERNAL_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is not one of the internet, or stands for one that is not.
pub fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => INTERNAL_V4.iter().any(|(network, bits)| shares(v4.into(), (*network).into(), *bits)),
        IpAddr::V6(v6) => {
            let within = |(network, bits): &(Ipv6Addr, u8)| shares(address, (*network).into(), *bits);
            match embedded(address) {
                Some(v4) if is_internal(v4.into()) => true,
                // The gateway's prefix is no part of the internet; what is behind it is.
                Some(_) if is_translated(v6) => false,
                _ => !within(&GLOBAL_V6) || INTERNAL_V6.iter().any(within),
            }
        }
    }
}

/// The address of IPv4 that one of IPv6 stands for: mapped (`::ffff:0:0/96`), compatible (`::/96`), behind a gateway
/// (NAT64, `64:ff9b::/96`, RFC 6052), in a tunnel (6to4, `2002::/16`; ISATAP, `…:0:5efe:a.b.c.d`, RFC 5214).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0 | 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, _, _, _, _, _) => Some(v4(b, c)),
        (_, _, _, _, 0 | 0x200, 0x5efe) => Some(v4(g, h)),
        _ => None,
    }
}

/// Whether an address is another way to write one of IPv4, or leads to it through a gateway.
fn is_translated(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn only_the_internet_is_reached_without_a_rule() {
        let internal = [
            // Unspecified, this network.
            "0.0.0.0",
            "0.1.2.3",
            "::",
            // Loopback.
            "127.0.0.1",
            "127.255.255.254",
            "::1",
            // Private.
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.168.255.255",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            // Link-local, the metadata service of clouds among them.
            "169.254.0.1",
            "169.254.169.254",
            "fe80::1",
            "febf::1",
            // Behind the provider's address translation.
            "100.64.0.1",
            "100.127.255.255",
            // Multicast, broadcast, reserved.
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "ff0e::1",
            // Protocols, documentation, benchmarks.
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "2001:db8::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "3fff::1",
            "100::1",
            "5f00::1",
            // IPv4 in IPv6: mapped, compatible, NAT64 (well known and local), 6to4, ISATAP.
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::1",
            "2a00::5efe:10.0.0.1",
            "2a00::200:5efe:127.0.0.1",
        ];
        for text in internal {
            assert!(is_internal(address(text)), "{text}");
            assert!(!HostRules::default().may_reach("models.example", address(text), 443), "{text}");
        }
        let internet = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00::1",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "2a00::5efe:1.1.1.1",
        ];
        for text in internet {
            assert!(!is_internal(address(text)), "{text}");
            assert!(HostRules::default().may_reach("models.example", address(text), 443), "{text}");
        }
    }

    #[test]
    fn a_rule_opens_what_it_names_and_nothing_beside_it() {
        let rules =
            HostRules::parse("NAS.plant., 10.1.0.0/16 192.168.7.7:8443\n[fd00::7]:9443 fd01::/16 files.plant:444");
        let rules = rules.unwrap();
        for (host, at, port, fine) in [
            ("nas.plant", "10.9.9.9", 443, true),
            ("Nas.Plant.", "127.0.0.1", 1, true),
            ("other.plant", "10.9.9.9", 443, false),
            ("nas.plant.evil.example", "10.9.9.9", 443, false),
            ("other.plant", "10.1.255.1", 1, true),
            ("10.1.0.1", "10.1.0.1", 443, true),
            ("other.plant", "::ffff:10.1.0.1", 443, true),
            ("other.plant", "64:ff9b::10.1.0.1", 443, true),
            ("other.plant", "10.2.0.0", 443, false),
            ("other.plant", "192.168.7.7", 8443, true),
            ("other.plant", "192.168.7.7", 443, false),
            ("other.plant", "192.168.7.8", 8443, false),
            ("[fd00::7]", "fd00::7", 9443, true),
            ("[fd00::7]", "fd00::7", 443, false),
            ("other.plant", "fd01:2::3", 443, true),
            ("other.plant", "fd02::3", 443, false),
            ("files.plant", "10.9.9.9", 444, true),
            ("files.plant", "10.9.9.9", 443, false),
            ("files.plant", "1.1.1.1", 443, true),
        ] {
            assert_eq!(rules.may_reach(host, address(at), port), fine, "{host} {at} {port}");
        }
        let settings = HostRules::default().with("[::1]", 8443).with("GHE.plant", 443);
        assert!(settings.may_reach("[::1]", address("::1"), 8443));
        assert!(!settings.may_reach("[::1]", address("::1"), 443));
        assert!(settings.may_reach("ghe.plant", address("10.0.0.1"), 443));
    }

    #[test]
    fn rules_that_mean_nothing_are_named() {
        for text in ["", " , \n"] {
            assert_eq!(HostRules::parse(text), Ok(HostRules::default()));
        }
        for bad in [
            "https://nas.plant",
            "nas.plant/xml",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0",
            "10.0.0.256",
            "nas..plant",
            "nas.plant:",
            "nas.plant:0",
            "nas.plant:65536",
            "nas.plant:https",
            "[fd00::7",
            "[fd00::7]9443",
            "*.plant",
            "10.0.0.0/",
            "/8",
            ":443",
            "nas_plant\u{e4}",
        ] {
            assert_eq!(HostRules::parse(&format!("fine.plant {bad}")), Err(InvalidHostRule(bad.into())), "{bad}");
        }
    }
}
