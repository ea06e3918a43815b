//! The kernel's word on the programs: how large each is, and how long its runs take. The kernel's own clock readings around
//! each run are in the figures.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{ProgramInfo, loaded_programs};

/// Bytes of an instruction.
const INSTRUCTION: u32 = 8;

/// The one folder of pins that are not links.
const MAPS: &str = "maps";

/// A program of the node.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    id: u32,
}

/// Runs so far, and nanoseconds that they took together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Runs {
    count: u64,
    time: u64,
}

/// What is in one program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Instructions.
    pub(crate) instructions: u32,
    /// Instructions that the verifier walked through, each way once or more.
    pub(crate) verified: u32,
}

/// The programs whose links are pinned below a folder, one of each name.
pub(crate) fn pinned_below(folder: &Path) -> Result<Vec<Program>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name() == MAPS {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                let link = PinnedLink::from_pin(entry.path())?;
                let id = FdLink::from(link).info()?.program_id();
                let program = info(id)?;
                let name = program.name_as_str().context("a program without a name")?;
                found.insert(name.to_owned(), id);
            }
        }
    }
    let programs = found.into_iter().map(|(name, id)| Program { name, id });
    Ok(programs.collect())
}

impl Program {
    pub(crate) fn runs(&self) -> Result<Runs> {
        let info = info(self.id)?;
        Ok(Runs {
            count: info.run_count(),
            time: u64::try_from(info.run_time().as_nanos())?,
        })
    }

    pub(crate) fn size(&self) -> Result<Size> {
        let info = info(self.id)?;
        Ok(Size {
            instructions: info.size_translated().context("the kernel hides the program")? / INSTRUCTION,
            verified: info
                .verified_instruction_count()
                .context("the kernel does not count")?,
        })
    }
}

impl Runs {
    /// Nanoseconds of one run, and how many there were, between two looks; none without any.
    pub(crate) fn since(self, before: Self) -> Option<(f64, u64)> {
        let count = self.count - before.count;
        (count > 0).then(|| ((self.time - before.time) as f64 / count as f64, count))
    }
}

fn info(id: u32) -> Result<ProgramInfo> {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .with_context(|| format!("program {id} is gone"))
}
