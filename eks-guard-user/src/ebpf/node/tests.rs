//! What is refused before the kernel is asked.

use super::*;

#[test]
fn a_config_is_checked_as_a_whole() {
    let levels = |levels: &[u32]| NodeConfig {
        levels: levels.to_vec(),
        ..NodeConfig::default()
    };
    assert!(matches!(config(&levels(&[])), Err(NodeError::Levels(0))));
    assert!(matches!(config(&levels(&[1; 9])), Err(NodeError::Levels(9))));
    let nat64 = NodeConfig {
        nat64: vec![Ipv6Addr::LOCALHOST; 5],
        ..levels(&[2])
    };
    assert!(matches!(config(&nat64), Err(NodeError::Nat64(5))));
    let config = config(&NodeConfig {
        nat64: vec![Ipv6Addr::UNSPECIFIED, "2001:db8:64::".parse().unwrap()],
        ..levels(&[2, 3])
    })
    .unwrap();
    assert_eq!((config.abi, config.level_count), (ABI_VERSION, 2));
    assert_eq!(config.levels[..3], [2, 3, 0]);
    assert_eq!(config.unknown, unknown::NO_CLASSES);
    assert_eq!(
        config.nat64[0][0].to_be(),
        0x2001_0db8,
        "one of zeros hides none behind it"
    );
    assert_eq!(config.nat64[1], [0; 3]);
}
