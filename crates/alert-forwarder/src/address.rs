//! Which addresses a target's name may lead to. Checked inside the client's own resolution: what was checked is what is connected to.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;

/// Asks for a name's addresses.
pub(crate) type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The system's resolver.
pub(crate) fn system(name: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// A resolver that knows no private address. Literal addresses never come here: whoever writes one means it.
pub(crate) struct PublicOnly(pub(crate) Lookup);

/// A resolver that hides nothing, for targets that are declared private.
pub(crate) struct Any(pub(crate) Lookup);

/// The name leads to an address inside.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to a private address")]
pub(crate) struct Forbidden;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let (name, lookup) = (name.as_str().to_owned(), self.0);
        Box::pin(async move {
            let found = lookup(name.clone()).await?;
            // One private address among public ones is no mistake that we would help with.
            let is_allowed = |address: IpAddr| if is_localhost(&name) { address.is_loopback() } else { is_public(address) };
            match found.iter().all(|address| is_allowed(address.ip())) {
                true => Ok(Box::new(found.into_iter()) as Addrs),
                false => Err(Forbidden.into()),
            }
        })
    }
}

impl Resolve for Any {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.0)(name.as_str().to_owned());
        Box::pin(async move { Ok(Box::new(found.await?.into_iter()) as Addrs) })
    }
}

/// The one name that stands for the loopback address, as a literal does.
pub(crate) fn is_localhost(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
}

/// Whether an address is one of the internet's: neither private, local, reserved nor where a cloud keeps its metadata.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let is_reserved = match address.octets() {
        // This network; Class E; and what carriers share, where some clouds keep their metadata.
        [0, ..] | [240..=255, ..] | [100, 64..=127, ..] => true,
        // Protocol assignments, with another cloud's metadata; benchmarks; the relays of 6to4.
        [192, 0, 0, _] | [198, 18..=19, ..] | [192, 88, 99, _] => true,
        // Azure's metadata has a public one.
        [168, 63, 129, 16] => true,
        _ => false,
    };
    let is_inside = address.is_private() || address.is_loopback() || address.is_link_local();
    !(is_reserved || is_inside || address.is_multicast() || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // IPv4 behind NAT64, as networks without IPv4 resolve names; and behind 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Mapped IPv4. An old kernel's "compatible" ones are not public: `::` and `::1` are among them.
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low),
        // Global unicast, less Teredo and other protocol assignments, and documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        // Link-local, unique local (AWS keeps its metadata there), multicast and whatever is not given out.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internets_addresses_are_public() {
        let is_public = |address: &str| is_public(address.parse().unwrap());
        for public in ["1.1.1.1", "52.94.236.248", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"] {
            assert!(is_public(public), "{public}");
        }
        for inside in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "169.254.170.2",
            "172.16.0.1",
            "192.168.1.1",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::101:101",
            "2002:a00:1::1",
            "2001::1",
            "2001:db8::1",
            "fd00:ec2::254",
            "fc00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert!(!is_public(inside), "{inside}");
        }
    }

    fn mixed(_: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        Box::pin(async { Ok(vec!["1.1.1.1:0".parse().unwrap(), "10.0.0.1:0".parse().unwrap()]) })
    }

    fn loopback(_: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
        Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap()]) })
    }

    #[tokio::test]
    async fn one_private_address_among_public_ones_is_refused_unless_the_target_is_private() {
        let name = || "hooks.example.com".parse().unwrap();
        let refused = PublicOnly(mixed).resolve(name()).await.err().unwrap();
        assert!(refused.downcast_ref::<Forbidden>().is_some());
        assert_eq!(Any(mixed).resolve(name()).await.ok().unwrap().count(), 2);
    }

    #[tokio::test]
    async fn localhost_is_the_loopback_address_and_nothing_else() {
        let name = || "localhost".parse().unwrap();
        assert_eq!(PublicOnly(loopback).resolve(name()).await.ok().unwrap().count(), 1);
        assert!(PublicOnly(mixed).resolve(name()).await.is_err());
        assert!(PublicOnly(loopback).resolve("localhost.example.com".parse().unwrap()).await.is_err());
    }
}
