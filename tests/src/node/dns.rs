//! A DNS answerer that knows a few names, and nothing else.

use std::net::IpAddr;

/// Record types that it knows.
const A: u16 = 1;
const AAAA: u16 = 28;
/// A reply, to a request that wanted recursion, which is offered; in the low bits the outcome.
const REPLY: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 3;

/// Reply to a query with one question; none when it cannot be read.
pub(crate) fn reply(query: &[u8], names: &[(String, Vec<IpAddr>)]) -> Option<Vec<u8>> {
    let (name, question_end) = question(query)?;
    let kind = u16::from_be_bytes([*query.get(question_end - 4)?, *query.get(question_end - 3)?]);
    let known = names.iter().find(|(known, _)| *known == name);
    let addresses: Vec<IpAddr> = known
        .iter()
        .flat_map(|(_, addresses)| addresses)
        .copied()
        .filter(|address| match address {
            IpAddr::V4(_) => kind == A,
            IpAddr::V6(_) => kind == AAAA,
        })
        .collect();
    let flags = if known.is_some() {
        REPLY
    } else {
        REPLY | NO_SUCH_NAME
    };
    let mut reply = query.get(..2)?.to_vec();
    for field in [flags, 1, u16::try_from(addresses.len()).ok()?, 0, 0] {
        reply.extend(field.to_be_bytes());
    }
    reply.extend(&query[12..question_end]);
    for address in addresses {
        // The name is that of the question, at byte 12; class IN; no time to live.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 0]);
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        reply.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
        reply.extend(bytes);
    }
    Some(reply)
}

/// The name in lower case without the last dot, and where the question ends.
fn question(query: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    query.get(at..at + 4)?;
    Some((labels.join("."), at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_by_name_and_type() {
        let names = [(
            "api.test".to_owned(),
            vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        )];
        let query = |name: &str, kind: u8| {
            let mut query = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                query.push(label.len().try_into().unwrap());
                query.extend(label.as_bytes());
            }
            query.extend([0, 0, kind, 0, 1]);
            query
        };
        let found = reply(&query("API.test", 1), &names).unwrap();
        assert_eq!((&found[..4], found[7]), (&[7, 9, 0x81, 0x80][..], 1));
        assert!(found.ends_with(&[0, 4, 192, 0, 2, 1]));
        assert!(reply(&query("api.test", 28), &names).unwrap().ends_with(&[0, 1]));
        assert_eq!(reply(&query("other.test", 1), &names).unwrap()[3], 0x83);
        assert_eq!(reply(&[0; 12], &names), None, "no question");
    }
}
