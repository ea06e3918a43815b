//! What the pinned maps say is closed: they outlive the daemon, and whatever it wrote to a disk.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Map, MapData};
use eks_guard_ebpf::{Class, class};

use crate::ebpf::node::error::{NodeError, map_error};
use crate::ebpf::node::pins::{self, Pins};
use crate::ebpf::node::tables::{address4, address6};

/// What an earlier daemon has closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The API server.
    pub api: BTreeSet<SocketAddr>,
    /// Single addresses of which the kubelet's ports are closed.
    pub nodes: BTreeSet<IpAddr>,
}

/// Reads what is closed from the maps below a folder of pins; nothing where none are.
///
/// # Errors
/// A map is there and cannot be read.
pub fn remembered(pins: &Path) -> Result<Remembered, NodeError> {
    let maps = Pins::below(pins).maps();
    let mut remembered = Remembered::default();
    if let Some(map) = trie(&maps.join("api4"), "api4")? {
        let api4 = LpmTrie::<_, u32, Class>::try_from(map).map_err(map_error("api4"))?;
        for entry in api4.iter() {
            let (key, class) = entry.map_err(map_error("api4"))?;
            remembered.add(address4(key.data()), key.prefix_len(), &class);
        }
    }
    if let Some(map) = trie(&maps.join("api6"), "api6")? {
        let api6 = LpmTrie::<_, [u32; 4], Class>::try_from(map).map_err(map_error("api6"))?;
        for entry in api6.iter() {
            let (key, class) = entry.map_err(map_error("api6"))?;
            remembered.add(address6(key.data()), key.prefix_len(), &class);
        }
    }
    Ok(remembered)
}

impl Remembered {
    fn add(&mut self, address: IpAddr, length: u32, entry: &Class) {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        match entry.class {
            class::API => {
                let ports = [entry.first_port, entry.last_port];
                self.api.extend(ports.map(|port| SocketAddr::new(address, port)));
            }
            class::KUBELET if length == whole => _ = self.nodes.insert(address),
            _ => {}
        }
    }
}

fn trie(path: &Path, name: &'static str) -> Result<Option<Map>, NodeError> {
    if pins::open(path)?.is_none() {
        return Ok(None);
    }
    let map = MapData::from_pin(path).map_err(map_error(name))?;
    Ok(Some(Map::LpmTrie(map)))
}
