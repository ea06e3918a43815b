//! What root takes off while the daemon lives comes back, and an agent that never stops trying reaches nothing meanwhile.

use std::fs;
use std::path::PathBuf;

use eks_guard::ebpf::node::{Fault, Problem, Repairs, detach};

use crate::node_world::{API, Layer, Node, Who};

/// The folder of pins of this ABI.
fn pins(node: &Node) -> PathBuf {
    let mut folders = fs::read_dir(&node.pins).unwrap();
    folders.next().unwrap().unwrap().path()
}

fn names(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Asks and repairs as a daemon does, in the network of the node.
fn repair(node: &mut Node) -> Repairs {
    let repairs = node.far.run(|| node.datapath.repair(&[]).unwrap());
    assert!(repairs.errors.is_empty(), "{:?}", repairs.errors);
    repairs
}

fn faults(node: &Node) -> Vec<Fault> {
    node.far.run(|| node.datapath.verify_attached(&[]).unwrap())
}

#[test]
fn every_program_that_is_detached_is_attached_again() {
    let mut node = Node::block_list();
    let mut probe = node.probe(Who::Agent, "udp-until-told 192.0.2.1:443");
    assert_eq!(probe.line(), "trying");
    let links = names(pins(&node).join("links"));
    assert_eq!(links.len(), 11);
    for link in &links {
        assert!(detach(link).unwrap());
        let name = link.file_name().unwrap();
        let repairs = repair(&mut node);
        assert_eq!(repairs.left, [], "{name:?}");
        let [repaired] = &repairs.repaired[..] else {
            panic!("{name:?}: {:?}", repairs.repaired);
        };
        assert_eq!(
            (repaired.program, repaired.problem),
            (name.to_str().unwrap(), Problem::Detached)
        );
        node.assert_redirected(&format!("tcp {API}"));
    }
    let line = probe.finish();
    assert!(line.starts_with("reached 0 refused "), "{line}");
    assert_ne!(line, "reached 0 refused 0");
    node.far
        .assert_untouched("an attempt while programs were detached");
    assert_eq!(faults(&node), []);
}

#[test]
fn pins_that_are_removed_come_back_as_they_were() {
    let mut node = Node::block_list();
    let pins = pins(&node);
    fs::remove_file(pins.join("links/egress")).unwrap();
    fs::remove_file(pins.join("maps/pods")).unwrap();
    assert_eq!(faults(&node).len(), 2);
    let repairs = repair(&mut node);
    assert_eq!((repairs.repaired.len(), repairs.left), (2, Vec::new()));

    fs::remove_dir_all(&pins).unwrap();
    let repairs = repair(&mut node);
    assert_eq!((repairs.repaired.len(), repairs.left), (11 + 13, Vec::new()));

    // What was on record is what the next daemon finds.
    node.reopen();
    assert_eq!(node.datapath.pods().unwrap().len(), 3);
    node.assert_refused(Who::Agent, "tcp 169.254.169.254:80");
    assert_eq!(faults(&node), []);
}

#[test]
fn a_program_runs_again_although_the_bpffs_takes_no_pin() {
    let mut node = Node::block_list();
    node.take_no_pins();
    assert!(detach(&pins(&node).join("links/connect4")).unwrap());
    let repairs = node.far.run(|| node.datapath.repair(&[]).unwrap());
    assert!(!repairs.errors.is_empty(), "it is said");
    node.assert_redirected(&format!("tcp {API}"));
}

#[test]
fn a_bpffs_that_is_unmounted_is_mounted_again_with_everything_on_it() {
    let mut node = Node::block_list();
    let is_wired = node.guard_wire() == Layer::Present;
    let mut probe = node.probe(Who::Agent, "udp-until-told 192.0.2.1:443");
    assert_eq!(probe.line(), "trying");
    node.unmount();
    assert!(!node.pins.exists());
    let repairs = repair(&mut node);
    // Interfaces are guarded again by who knows whose they are.
    assert!(
        repairs.left.iter().all(|fault| fault.ifindex.is_some()),
        "{:?}",
        repairs.left
    );
    if is_wired {
        assert_eq!(node.guard_wire(), Layer::Present);
        assert_eq!(faults(&node), []);
    }
    node.reopen();
    assert_eq!(node.datapath.pods().unwrap().len(), 3);
    let line = probe.finish();
    assert!(line.starts_with("reached 0 refused "), "{line}");
    node.far.assert_untouched("an attempt while the bpffs was away");
    assert_eq!(node.datapath.retire_others().unwrap(), 0);
}
