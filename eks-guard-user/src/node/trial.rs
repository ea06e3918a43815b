//! One pod, tried from inside: every route of the bypass catalogue, by a process in a cgroup of its own below that of one of the
//! pod's containers. The agent is not touched; what was set up for the trial is gone when it ends.

mod cgroup;
mod collaborators;
mod target;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::Answer;
use eks_guard_core::catalogue::report::ProfileReport;

use crate::ebpf::LoadError;
use crate::node::cgroup::CgroupsError;
use crate::node::trial::cgroup::TrialCgroup;
use crate::node::trial::collaborators::Collaborators;
use crate::probe::place::{Namespaces, Place};
use crate::probe::profile::Profile;
use crate::probe::{ProbeError, answers};

pub use self::collaborators::Surroundings;
pub use self::target::{Target, targets};

/// What an agent in the node's network is tried as, and why not as more.
const REFUSED_IN_THE_NODES_NETWORK: &str =
    "the pod is in the node's network; with capabilities it must be refused at admission";
const OWN_NETWORK: &str = "the pod has a network of its own";

/// Why a pod could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The pods' cgroups cannot be read.
    #[error(transparent)]
    Cgroups(#[from] CgroupsError),
    /// The addresses of the node are not known.
    #[error(transparent)]
    Addresses(#[from] LoadError),
    /// The probe is not there.
    #[error("cannot open the probe {}: install it beside eks-guard, or give its path", path.display())]
    NoProbe {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step of one pod's trial failed.
    #[error("cannot try pod {pod}: {action}")]
    Pod {
        /// `NAMESPACE/NAME`.
        pod: String,
        /// What was being done.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The probe gave no answers.
    #[error("cannot try pod {pod} as {profile}")]
    Probe {
        /// `NAMESPACE/NAME`.
        pod: String,
        /// As what.
        profile: Profile,
        /// Why.
        #[source]
        source: ProbeError,
    },
}

/// Whether the same attempts are made without the boundary too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// By a process of the node, so that what is blocked is known to be blocked by the boundary.
    WithTheNode,
    /// No: that would only cost time.
    WithNothing,
}

/// The probe, opened once.
///
/// # Errors
/// It is not there.
pub fn open_probe(path: &Path) -> Result<File, TrialError> {
    File::open(path).map_err(|source| TrialError::NoProbe {
        path: path.to_owned(),
        source,
    })
}

/// Tries one pod under each profile, all at the same time: most of a trial is waiting for answers that do not come.
///
/// # Errors
/// A profile could not be tried.
pub fn try_pod(
    target: &Target,
    profiles: &[Profile],
    around: &Surroundings,
    probe: &File,
    compare: Compare,
) -> Result<Vec<ProfileReport>, TrialError> {
    let one = |profile| try_profile(target, profile, around, probe, compare);
    thread::scope(|scope| {
        let started: Vec<_> = profiles
            .iter()
            .map(|profile| scope.spawn(move || one(*profile)))
            .collect();
        let joined = started.into_iter().map(|thread| {
            let panicked = || target.failed("run the trial")(io::Error::other("its thread panicked"));
            thread.join().unwrap_or_else(|_| Err(panicked()))
        });
        joined.collect()
    })
}

fn try_profile(
    target: &Target,
    profile: Profile,
    around: &Surroundings,
    probe: &File,
    compare: Compare,
) -> Result<ProfileReport, TrialError> {
    let fits = match target.boundary {
        Boundary::HostNetworkPod => profile == Profile::HostNetwork,
        Boundary::Pod | Boundary::Run => profile != Profile::HostNetwork,
    };
    if !fits {
        let reason = match target.boundary {
            Boundary::HostNetworkPod => REFUSED_IN_THE_NODES_NETWORK,
            Boundary::Pod | Boundary::Run => OWN_NETWORK,
        };
        return Ok(ProfileReport::not_offered(profile.name(), reason).of_pod(&target.pod));
    }
    let (inside, outside) = thread::scope(|scope| {
        let outside = match compare {
            Compare::WithTheNode => Some(scope.spawn(|| outside(target, profile, around, probe))),
            Compare::WithNothing => None,
        };
        let inside = inside(target, profile, around, probe);
        let outside = outside.map(|thread| thread.join().unwrap_or_else(|_| Ok(Vec::new())));
        (inside, outside)
    });
    let outside = outside.transpose()?.unwrap_or_default();
    Ok(ProfileReport::new(target.boundary, profile.name(), &inside?, &outside).of_pod(&target.pod))
}

/// In the pod.
fn inside(
    target: &Target,
    profile: Profile,
    around: &Surroundings,
    probe: &File,
) -> Result<Vec<Answer>, TrialError> {
    let collaborators = Collaborators::start(around, target)
        .map_err(target.failed("stand where a helper of the agent would stand"))?;
    let cgroup = TrialCgroup::create(&target.container)
        .map_err(target.failed("make a cgroup below the container's"))?;
    let place = Place {
        cgroup: Some(cgroup.path()),
        namespaces: &target.namespaces,
        profile,
        probe,
    };
    run(&place, &collaborators, target)
}

/// By a process of the node, in its network and with its files.
fn outside(
    target: &Target,
    profile: Profile,
    around: &Surroundings,
    probe: &File,
) -> Result<Vec<Answer>, TrialError> {
    let collaborators =
        Collaborators::of_the_node(around, target).map_err(target.failed("listen on the node"))?;
    let place = Place {
        cgroup: None,
        namespaces: &Namespaces::default(),
        profile,
        probe,
    };
    run(&place, &collaborators, target)
}

fn run(place: &Place<'_>, collaborators: &Collaborators, target: &Target) -> Result<Vec<Answer>, TrialError> {
    let profile = place.profile;
    let failed = |source| TrialError::Probe {
        pod: target.pod.clone(),
        profile,
        source,
    };
    let command = place
        .command()
        .map_err(|source| failed(ProbeError::Run(source)))?;
    answers(command, &collaborators.plan).map_err(failed)
}
