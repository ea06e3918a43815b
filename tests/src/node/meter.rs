//! Counts packets that arrive in a network namespace by source and destination, in the kernel, before anything may drop
//! or rewrite them: a packet that nobody answers is counted too.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::netns::Netns;

/// Room for pairs of source and destination.
const SIZE: usize = 65_535;

/// The rules that count packets for which `condition` holds.
pub(crate) fn script(condition: &str) -> String {
    format!(
        "table inet arrivals {{\n\
         set v4 {{ type ipv4_addr . ipv4_addr; flags dynamic; size {SIZE}; counter; }}\n\
         set v6 {{ type ipv6_addr . ipv6_addr; flags dynamic; size {SIZE}; counter; }}\n\
         chain count {{ type filter hook prerouting priority raw - 10;\n\
         {condition} update @v4 {{ ip saddr . ip daddr counter }}\n\
         {condition} update @v6 {{ ip6 saddr . ip6 daddr counter }}\n\
         }}\n}}\n"
    )
}

/// One pair of addresses and how many packets went that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// Who it says it came from.
    pub(crate) from: IpAddr,
    /// Whom it was for.
    pub(crate) to: IpAddr,
    /// Packets.
    pub(crate) packets: u64,
}

/// Everything counted so far.
pub(crate) fn read(netns: &Netns) -> Result<Vec<Count>> {
    let text = netns.nft_json(&["list", "table", "inet", "arrivals"])?;
    parse(&text).context("reading the meter")
}

fn parse(text: &str) -> Result<Vec<Count>> {
    let reply: Value = serde_json::from_str(text)?;
    let items = reply["nftables"].as_array().context("no items in the reply")?;
    let mut counts = Vec::new();
    for set in items.iter().filter_map(|item| item.get("set")) {
        // A set without elements has no list of them.
        let elements = set["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(
            elements.len() < SIZE,
            "the meter is full, and no longer counts everything"
        );
        for element in elements {
            counts.push(count(&element["elem"])?);
        }
    }
    Ok(counts)
}

fn count(element: &Value) -> Result<Count> {
    let pair = &element["val"]["concat"];
    let address = |value: &Value| {
        value
            .as_str()
            .context("no address")?
            .parse()
            .context("an address")
    };
    Ok(Count {
        from: address(&pair[0])?,
        to: address(&pair[1])?,
        packets: element["counter"]["packets"]
            .as_u64()
            .context("no count of packets")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_nft_prints() {
        let text = r#"{"nftables":[{"metainfo":{}},{"set":{"name":"v4","elem":[{"elem":{"val":
            {"concat":["10.0.0.1","10.0.0.2"]},"counter":{"packets":3,"bytes":180}}}]}}]}"#;
        let counts = parse(text).unwrap();
        let [from, to] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        assert_eq!(counts, [Count { from, to, packets: 3 }]);
        assert_eq!(parse(r#"{"nftables":[{"set":{"name":"v4"}}]}"#).unwrap(), []);
    }
}
