//! The node's maps, with a copy of those that are compared before they are written: they outlive the daemon, so what is in
//! them counts, not what it remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use eks_guard_ebpf::address::words;
use eks_guard_ebpf::allow::{Allow, Key4, Key6};
use eks_guard_ebpf::{Class, Config, Link, MAX_NAT64_PREFIXES, Pod, class};

use crate::ebpf::load_error::LoadError;
use crate::ebpf::node::allow_list::AllowKey;
use crate::ebpf::node::error::{NodeError, map_error};
use crate::ebpf::node::exact::{self, Classed, ExactEntries};
use crate::ebpf::object::take_map;
use crate::ebpf::prefix::Prefix;

/// The maps a node writes.
pub(super) struct Tables {
    pub(super) config: Array<MapData, Config>,
    pub(super) pods: HashMap<MapData, u64, Pod>,
    pub(super) links: HashMap<MapData, u32, Link>,
    api4: LpmTrie<MapData, u32, Class>,
    api6: LpmTrie<MapData, [u32; 4], Class>,
    allow4: LpmTrie<MapData, Key4, Allow>,
    allow6: LpmTrie<MapData, Key6, Allow>,
    /// What is in `api4` and `api6`.
    classes: BTreeMap<Prefix, Class>,
    /// What is in `allow4` and `allow6`.
    allowed: BTreeMap<AllowKey, Allow>,
    /// What follows from both and is in `exact`.
    exact: ExactEntries,
    nat64: [[u32; 3]; MAX_NAT64_PREFIXES],
}

impl Tables {
    /// Takes the maps out of the object and reads what is in them. `nat64` are the prefixes of the configuration to come.
    pub(super) fn take(ebpf: &mut Ebpf, nat64: [[u32; 3]; MAX_NAT64_PREFIXES]) -> Result<Self, NodeError> {
        let mut tables = Self {
            config: typed(ebpf, "cfg")?,
            pods: typed(ebpf, "pods")?,
            links: typed(ebpf, "links")?,
            api4: typed(ebpf, "api4")?,
            api6: typed(ebpf, "api6")?,
            allow4: typed(ebpf, "allow4")?,
            allow6: typed(ebpf, "allow6")?,
            classes: BTreeMap::new(),
            allowed: BTreeMap::new(),
            exact: ExactEntries::take(ebpf)?,
            nat64,
        };
        tables.read_classes()?;
        tables.read_allowed()?;
        let follows: BTreeSet<Key6> = tables.exact_keys().collect();
        tables.exact.retain(|key| follows.contains(key))?;
        Ok(tables)
    }

    /// Adds what one look can decide by what is in the other maps.
    pub(super) fn fill_exact(&mut self) {
        let keys: Vec<Key6> = self.exact_keys().collect();
        self.exact.add(keys);
    }

    fn exact_keys(&self) -> impl Iterator<Item = Key6> {
        let classed = Classed::by(&self.classes);
        let keys = self
            .allowed
            .keys()
            .filter_map(|entry| exact::key(entry, &self.nat64));
        keys.filter(move |key| !classed.has(key))
    }

    /// Puts the classes in the place of those that are there: what is new first, what is gone last, so that nothing is
    /// open in between. Where there is no room for all that is new, the API server is let in before others, and what is gone
    /// makes room first, unless something that waits stands below it. Returns how many entries changed.
    pub(super) fn replace_classes(&mut self, wanted: &BTreeMap<Prefix, Class>) -> Result<usize, NodeError> {
        let is_new = |(prefix, class): &(&Prefix, &Class)| self.classes.get(prefix) != Some(class);
        let mut new: Vec<_> = wanted.iter().filter(is_new).collect();
        new.sort_by_key(|(_, entry)| entry.class != class::API);
        let is_gone = |prefix: &&Prefix| !wanted.contains_key(prefix);
        let gone: Vec<Prefix> = self.classes.keys().filter(is_gone).copied().collect();
        let changed = new.len() + gone.len();
        let wanted = Classed::by(wanted);
        let retained = self.exact.retain(|key| !wanted.has(key));

        let (waiting, _no_room_yet) = self.let_in(new);
        let is_needed = |gone: &Prefix| waiting.iter().any(|(prefix, _)| gone.contains(**prefix));
        let (needed, gone): (Vec<Prefix>, Vec<Prefix>) = gone.into_iter().partition(is_needed);
        self.let_go(&gone)?;
        let (_, no_room) = self.let_in(waiting);
        if let Some(error) = no_room {
            return Err(map_error("api4, api6")(error));
        }
        self.let_go(&needed)?;
        retained.map(|()| changed)
    }

    /// Adds classes; those that find no room come back, and why the first of them did not.
    fn let_in<'a>(
        &mut self,
        classes: Vec<(&'a Prefix, &'a Class)>,
    ) -> (Vec<(&'a Prefix, &'a Class)>, Option<MapError>) {
        let (mut waiting, mut first) = (Vec::new(), None);
        for (prefix, class) in classes {
            let inserted = match prefix.addr {
                IpAddr::V4(v4) => self.api4.insert(&key4(prefix.len, v4), *class, 0),
                IpAddr::V6(v6) => self.api6.insert(&key6(prefix.len, v6), *class, 0),
            };
            match inserted {
                Ok(()) => _ = self.classes.insert(*prefix, *class),
                Err(error) => {
                    waiting.push((prefix, class));
                    first.get_or_insert(error);
                }
            }
        }
        (waiting, first)
    }

    fn let_go(&mut self, classes: &[Prefix]) -> Result<(), NodeError> {
        for prefix in classes {
            match prefix.addr {
                IpAddr::V4(v4) => self.api4.remove(&key4(prefix.len, v4)),
                IpAddr::V6(v6) => self.api6.remove(&key6(prefix.len, v6)),
            }
            .map_err(map_error("api4, api6"))?;
            self.classes.remove(prefix);
        }
        Ok(())
    }

    /// Puts a pod's allow entries in the place of those that are there: what is gone first, so that a list that does not
    /// fit opens nothing it should not.
    pub(super) fn replace_allowed(
        &mut self,
        index: u32,
        wanted: &BTreeMap<AllowKey, Allow>,
    ) -> Result<usize, NodeError> {
        let gone: Vec<AllowKey> = self
            .allowed
            .keys()
            .filter(|key| key.index() == index && !wanted.contains_key(key))
            .copied()
            .collect();
        let mut changed = gone.len();
        self.forbid(&gone)?;
        for (key, value) in wanted {
            if self.allowed.get(key) == Some(value) {
                continue;
            }
            match *key {
                AllowKey::V4(bits, data) => self.allow4.insert(&Key::new(bits, data), *value, 0),
                AllowKey::V6(bits, data) => self.allow6.insert(&Key::new(bits, data), *value, 0),
            }
            .map_err(map_error("allow4, allow6"))?;
            self.allowed.insert(*key, *value);
            changed += 1;
        }
        let classed = Classed::by(&self.classes);
        let keys = wanted.keys().filter_map(|entry| exact::key(entry, &self.nat64));
        self.exact.add(keys.filter(|key| !classed.has(key)));
        Ok(changed)
    }

    /// Removes the allow entries of pods that are no more: their indices may be used again.
    pub(super) fn forbid_unowned(&mut self) -> Result<(), NodeError> {
        let mut owners = Vec::new();
        for pod in self.pods.iter() {
            owners.push(pod.map_err(map_error("pods"))?.1.index);
        }
        let unowned: Vec<AllowKey> = self
            .allowed
            .keys()
            .filter(|key| !owners.contains(&key.index()))
            .copied()
            .collect();
        self.forbid(&unowned)
    }

    /// The pod of a cgroup.
    pub(super) fn pod(&self, cgroup: u64) -> Result<Option<Pod>, NodeError> {
        present(self.pods.get(&cgroup, 0)).map_err(map_error("pods"))
    }

    /// All pods.
    pub(super) fn all_pods(&self) -> Result<Vec<(u64, Pod)>, NodeError> {
        self.pods
            .iter()
            .collect::<Result<_, _>>()
            .map_err(map_error("pods"))
    }

    /// All interfaces on record.
    pub(super) fn all_links(&self) -> Result<Vec<(u32, Link)>, NodeError> {
        self.links
            .iter()
            .collect::<Result<_, _>>()
            .map_err(map_error("links"))
    }

    /// Removes the entry of an interface that may have none.
    pub(super) fn forget_link(&mut self, ifindex: u32) -> Result<(), NodeError> {
        present(self.links.remove(&ifindex))
            .map(drop)
            .map_err(map_error("links"))
    }

    fn forbid(&mut self, keys: &[AllowKey]) -> Result<(), NodeError> {
        for key in keys {
            if let Some(exact) = exact::key(key, &self.nat64) {
                self.exact.remove(&exact)?;
            }
            match *key {
                AllowKey::V4(bits, data) => self.allow4.remove(&Key::new(bits, data)),
                AllowKey::V6(bits, data) => self.allow6.remove(&Key::new(bits, data)),
            }
            .map_err(map_error("allow4, allow6"))?;
            self.allowed.remove(key);
        }
        Ok(())
    }

    fn read_classes(&mut self) -> Result<(), NodeError> {
        for entry in self.api4.iter() {
            let (key, class) = entry.map_err(map_error("api4"))?;
            self.classes
                .extend(read_prefix(address4(key.data()), key.prefix_len(), class));
        }
        for entry in self.api6.iter() {
            let (key, class) = entry.map_err(map_error("api6"))?;
            self.classes
                .extend(read_prefix(address6(key.data()), key.prefix_len(), class));
        }
        Ok(())
    }

    fn read_allowed(&mut self) -> Result<(), NodeError> {
        for entry in self.allow4.iter() {
            let (key, value) = entry.map_err(map_error("allow4"))?;
            self.allowed
                .insert(AllowKey::V4(key.prefix_len(), key.data()), value);
        }
        for entry in self.allow6.iter() {
            let (key, value) = entry.map_err(map_error("allow6"))?;
            self.allowed
                .insert(AllowKey::V6(key.prefix_len(), key.data()), value);
        }
        Ok(())
    }
}

/// `None` where the map has no such entry.
pub(super) fn present<V>(found: Result<V, MapError>) -> Result<Option<V>, MapError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        // What removing answers.
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn typed<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, NodeError>
where
    T: TryFrom<Map, Error = MapError>,
{
    T::try_from(take_map(ebpf, name)?).map_err(|source| {
        NodeError::Load(LoadError::Map {
            name,
            source: Box::new(source),
        })
    })
}

fn read_prefix(addr: IpAddr, len: u32, class: Class) -> Option<(Prefix, Class)> {
    Prefix::new(addr, len).map(|prefix| (prefix, class))
}

fn key4(len: u32, addr: Ipv4Addr) -> Key<u32> {
    Key::new(len, u32::from_ne_bytes(addr.octets()))
}

fn key6(len: u32, addr: Ipv6Addr) -> Key<[u32; 4]> {
    Key::new(len, words(&addr.octets()))
}

/// The address of a key of an IPv4 map.
pub(super) fn address4(word: u32) -> IpAddr {
    Ipv4Addr::from(word.to_ne_bytes()).into()
}

/// The address of a key of an IPv6 map.
pub(super) fn address6(words: [u32; 4]) -> IpAddr {
    let [a, b, c, d] = words.map(u32::to_be);
    let bits = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
    Ipv6Addr::from_bits(bits).into()
}
