//! Which addresses are the API server: merged from several sources, each remembered for hours. Pure; time is an argument.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::node::kube::{Change, EndpointSlice, Object, Service};

/// How long an address counts after its source has stopped naming it: a name server's answers rotate, and a connection
/// to an address of yesterday may still be served.
const MEMORY: Duration = Duration::from_secs(12 * 60 * 60);

/// How often a Service in front of a Service in front of the API server is followed.
const ALIAS_DEPTH: usize = 8;

/// Addresses of Services in front of the API server that count. Whoever may make Services makes as many as he likes, and the
/// API server's own addresses must find room beside them.
const MAX_ALIASES: usize = 1024;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Who names an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The name in the guard's own configuration, resolved.
    Endpoint,
    /// The Service `kubernetes` and its endpoints.
    Cluster,
    /// Services that lead to it.
    Aliases,
}

/// What the cluster says of where the API server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The Service `kubernetes` and its endpoints.
    pub own: BTreeSet<SocketAddr>,
    /// Services whose endpoints lead to one of its addresses.
    pub aliases: BTreeSet<SocketAddr>,
    /// Ports of every node that lead there.
    pub node_ports: BTreeSet<u16>,
    /// Those of the Service `kubernetes`.
    pub own_node_ports: BTreeSet<u16>,
}

impl Named {
    /// The node ports of the Service `kubernetes` on these addresses. Loopback is everybody's own, the guard's listeners in
    /// pods included.
    #[must_use]
    pub fn on_node(&self, addresses: &BTreeSet<IpAddr>) -> BTreeSet<SocketAddr> {
        let addresses = addresses
            .iter()
            .filter(|address| !address.to_canonical().is_loopback());
        let ports = |address: &IpAddr| {
            let address = *address;
            self.own_node_ports
                .iter()
                .map(move |port| SocketAddr::new(address, *port))
        };
        addresses.flat_map(ports).collect()
    }
}

/// Addresses and when each was named last. What is in it comes from the API server and name servers: an address can be
/// added by them, and leaves only after hours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiSet {
    seen: Vec<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    source: Source,
    address: SocketAddr,
    /// By the clock that nobody can set; none: not since this daemon began, whose memory of it begins with it.
    #[serde(skip)]
    last: Option<Instant>,
}

impl ApiSet {
    /// Takes in what a source names now. An empty answer is no answer, as there is always an API server: it neither adds nor
    /// ages. That there is no alias is one.
    pub fn observe(&mut self, source: Source, named: &BTreeSet<SocketAddr>, now: Instant) {
        if named.is_empty() && source != Source::Aliases {
            return;
        }
        self.seen.retain_mut(|seen| {
            if seen.source != source {
                return true;
            }
            let last = *seen.last.get_or_insert(now);
            now.saturating_duration_since(last) <= MEMORY && !named.contains(&seen.address)
        });
        self.seen.extend(named.iter().map(|&address| Seen {
            source,
            address,
            last: Some(now),
        }));
        self.forget_aliases();
    }

    /// Forgets the aliases that were named longest ago, as far as there are too many.
    fn forget_aliases(&mut self) {
        let aliases = self.seen.iter().filter(|seen| seen.source == Source::Aliases);
        let Some(excess) = aliases
            .count()
            .checked_sub(MAX_ALIASES)
            .filter(|excess| *excess > 0)
        else {
            return;
        };
        // The sort is stable, and what is named now stands behind what was.
        self.seen
            .sort_by_key(|seen| (seen.source != Source::Aliases, seen.last));
        self.seen.drain(..excess);
    }

    /// Whether there are as many aliases as count, so that others may not.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        let aliases = self.seen.iter().filter(|seen| seen.source == Source::Aliases);
        aliases.count() >= MAX_ALIASES
    }

    /// Its own addresses, those of aliases left out.
    #[must_use]
    pub fn own(&self) -> BTreeSet<SocketAddr> {
        let own = self.seen.iter().filter(|seen| seen.source != Source::Aliases);
        own.map(|seen| seen.address).collect()
    }

    /// Adds what was the API server to whoever ran before. Which of it were aliases is not known any more.
    pub fn recall(&mut self, addresses: &BTreeSet<SocketAddr>) {
        let known = self.addresses();
        let lost = addresses.difference(&known).map(|&address| Seen {
            source: Source::Aliases,
            address,
            last: None,
        });
        self.seen.extend(lost);
    }

    /// Every address that counts.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<SocketAddr> {
        self.seen.iter().map(|seen| seen.address).collect()
    }
}

/// What the cluster says of its Services: the objects as the watches told them.
#[derive(Clone, Debug, Default)]
pub struct Services {
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
}

#[derive(Clone, Debug)]
struct Cache<T> {
    objects: BTreeMap<(String, String), T>,
    is_listed: bool,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            is_listed: false,
        }
    }
}

impl<T: Object> Cache<T> {
    fn take(&mut self, change: Change<T>) {
        let key = |object: &T| {
            let metadata = object.metadata();
            (metadata.namespace.clone(), metadata.name.clone())
        };
        match change {
            Change::Listed(objects) => {
                self.is_listed = true;
                self.objects = objects.into_iter().map(|object| (key(&object), object)).collect();
            }
            Change::Set(object) => _ = self.objects.insert(key(&object), object),
            Change::Gone(object) => _ = self.objects.remove(&key(&object)),
        }
    }
}

impl Services {
    /// Takes in a change of a Service.
    pub fn take_service(&mut self, change: Change<Service>) {
        self.services.take(change);
    }

    /// Takes in a change of an EndpointSlice.
    pub fn take_slice(&mut self, change: Change<EndpointSlice>) {
        self.slices.take(change);
    }

    /// Whether both have been told as a whole.
    #[must_use]
    pub fn are_listed(&self) -> bool {
        self.services.is_listed && self.slices.is_listed
    }

    /// The API server's addresses: those of the Service `kubernetes` and its endpoints, and of every Service whose
    /// endpoints lead to one of these or to one of `known`.
    #[must_use]
    pub fn api_addresses(&self, known: &BTreeSet<SocketAddr>) -> Named {
        let own = |key: &(String, String)| key.0 == "default" && key.1 == "kubernetes";
        let mut named = Named::default();
        for (key, service) in &self.services.objects {
            if own(key) {
                named.own.extend(service_addresses(service));
                named.own_node_ports.extend(node_ports(service));
            }
        }
        for slice in self.slices.objects.values() {
            if service_of(slice).is_some_and(|key| own(&key)) {
                named.own.extend(slice_addresses(slice));
            }
        }
        for _ in 0..ALIAS_DEPTH {
            let all = named.own.iter().chain(&named.aliases).chain(known);
            let machines: BTreeSet<IpAddr> = all.map(|address| address.ip().to_canonical()).collect();
            let before = named.aliases.len();
            for slice in self.slices.objects.values() {
                if leads_to(slice, &machines)
                    && let Some(service) = service_of(slice).and_then(|key| self.services.objects.get(&key))
                {
                    named.aliases.extend(service_addresses(service));
                    named.node_ports.extend(node_ports(service));
                }
            }
            if named.aliases.len() == before {
                break;
            }
        }
        named.node_ports.extend(&named.own_node_ports);
        let Named { own, aliases, .. } = &mut named;
        aliases.retain(|address| !own.contains(address));
        named
    }
}

fn service_of(slice: &EndpointSlice) -> Option<(String, String)> {
    let name = slice.metadata.labels.get(SERVICE_NAME)?;
    Some((slice.metadata.namespace.clone(), name.clone()))
}

fn leads_to(slice: &EndpointSlice, machines: &BTreeSet<IpAddr>) -> bool {
    let addresses = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .any(|address| machines.contains(&address.to_canonical()))
}

fn slice_addresses(slice: &EndpointSlice) -> BTreeSet<SocketAddr> {
    let texts = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    let ports = slice.ports.iter().map(|port| port.port);
    pairs(texts.map(String::as_str), ports)
}

fn service_addresses(service: &Service) -> BTreeSet<SocketAddr> {
    let spec = &service.spec;
    let ingress = service
        .status
        .load_balancer
        .ingress
        .iter()
        .map(|ingress| &ingress.ip);
    let texts = spec.cluster_ips.iter().chain(&spec.external_ips).chain(ingress);
    let ports = spec.ports.iter().map(|port| port.port);
    pairs(texts.map(String::as_str), ports)
}

fn node_ports(service: &Service) -> impl Iterator<Item = u16> {
    // 0: none.
    let ports = service.spec.ports.iter().filter_map(|port| port.node_port);
    ports.filter(|port| *port != 0)
}

/// Texts that are no address (`None` of a headless Service) name none.
fn pairs<'a>(
    texts: impl Iterator<Item = &'a str>,
    ports: impl Iterator<Item = Option<u16>> + Clone,
) -> BTreeSet<SocketAddr> {
    let machines = texts.filter_map(|text| text.parse::<IpAddr>().ok());
    machines
        .flat_map(|ip| ports.clone().flatten().map(move |port| SocketAddr::new(ip, port)))
        .collect()
}
