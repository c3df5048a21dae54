//! What a mount looks at, and mends: chains longer than their file's size are trimmed, sizes longer than the chain shortened.
//!
//! The directories say what there is. A first pass goes through all of them and marks the clusters that their entries need; a
//! cluster that two need, or that is free, makes the volume read-only, as a write to one file would be one to another. What is
//! behind the end of a file is freed only when nobody has it marked, and after the chain's new end is durable. Memory:
//! a bit for each cluster. Sleeps; nobody else has the volume yet.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

use crate::FsError;
use crate::geometry::{FIRST, Geometry};
use crate::slots::{Place, Slot};
use crate::state::State;
use crate::table::Next;

/// What was wrong with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// It had clusters behind the end of the file.
    Longer,
    /// Its clusters ended before the file did.
    Shorter {
        /// The size in the directory.
        said: u32,
        /// Bytes that there are.
        found: u32,
    },
    /// What is not mended.
    Damage(&'static str),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Longer => f.write_str("clusters behind its end"),
            Self::Shorter { said, found } => {
                write!(f, "{said} bytes long, but has clusters for {found} only")
            }
            Self::Damage(what) => write!(f, "damaged: {what}"),
        }
    }
}

/// What a mount has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// The first of them, with the path of each; names are the short ones.
    pub list: Vec<(String, Finding)>,
    /// How many there are in all.
    pub count: u64,
    /// They have been mended, but for damage.
    pub mended: bool,
}

/// How many findings are kept.
const KEPT: usize = 20;

impl Findings {
    fn add(&mut self, path: String, finding: Finding) {
        self.count += 1;
        if self.list.len() < KEPT {
            self.list.push((path, finding));
        }
    }
}

/// A bit for each cluster.
struct Marks(Vec<u64>);

impl Marks {
    fn new(geometry: &Geometry) -> Result<Self, FsError> {
        let words = (geometry.clusters as usize).div_ceil(64);
        let mut list = Vec::new();
        list.try_reserve_exact(words)
            .map_err(|_| FsError::NoMemory)?;
        list.resize(words, 0);
        Ok(Self(list))
    }

    /// Marks a cluster, which is one; false when it was.
    fn mark(&mut self, cluster: u32) -> bool {
        let i = cluster - FIRST;
        let (word, bit) = (&mut self.0[i as usize / 64], 1 << (i % 64));
        let fresh = *word & bit == 0;
        *word |= bit;
        fresh
    }
}

/// How a chain goes on behind the clusters that are needed.
enum Rest {
    /// It does not.
    Nothing,
    /// With this cluster.
    Surplus(u32),
    /// It ends too early.
    Missing,
    /// It is not to be touched.
    Damage(&'static str),
}

/// An entry whose chain does not fit its size.
struct Unfit {
    slot: Slot,
    /// The last cluster that it keeps, if it keeps any.
    last: Option<u32>,
    /// How many it keeps.
    kept: u32,
    rest: Rest,
}

struct Pass {
    marks: Marks,
    findings: Findings,
    unfit: Vec<Unfit>,
    /// Directories to be looked at, with their paths.
    todo: Vec<(Place, String)>,
    shared: bool,
}

const SHARED: &str = "a cluster that is another's too";
const FREE: &str = "a cluster that is free as well";

impl State {
    /// Mends what a power cut has left.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn mend(&mut self) -> Result<Findings, FsError> {
        let mut pass = Pass {
            marks: Marks::new(&self.tree.geometry)?,
            findings: Findings::default(),
            unfit: Vec::new(),
            todo: Vec::from([(Place::root(&self.tree.geometry), String::new())]),
            shared: false,
        };
        while let Some((place, path)) = pass.todo.pop() {
            match self.look_into(&mut pass, place, &path) {
                Err(FsError::Corrupt(what)) => pass.findings.add(path, Finding::Damage(what)),
                other => other?,
            }
        }
        if pass.shared && self.read_only.is_none() {
            self.read_only = Some("it is damaged");
        }
        if self.read_only.is_none() && !pass.unfit.is_empty() {
            self.mend_all(&mut pass)?;
            pass.findings.mended = true;
        }
        Ok(pass.findings)
    }

    fn look_into(&mut self, pass: &mut Pass, place: Place, path: &str) -> Result<(), FsError> {
        if let Place::Chain(first) = place {
            let (_, _, rest) = self.needed(pass, first, u32::MAX)?;
            if let Rest::Damage(what) = rest {
                pass.findings.add(path.into(), Finding::Damage(what));
                return Ok(());
            }
        }
        let mut entries: Vec<Slot> = Vec::new();
        let full = self.slots().each(place, |slot| {
            if slot.is_end() {
                return ControlFlow::Break(Ok(()));
            }
            if slot.is_entry() {
                if entries.try_reserve(1).is_err() {
                    return ControlFlow::Break(Err(FsError::NoMemory));
                }
                entries.push(slot);
            }
            ControlFlow::Continue(())
        })?;
        full.unwrap_or(Ok(()))?;
        for slot in entries {
            let path = alloc::format!("{path}/{}", name(&slot));
            if slot.is_directory() {
                let room = pass.todo.try_reserve(1);
                room.map_err(|_| FsError::NoMemory)?;
                pass.todo.push((Place::Chain(slot.first()), path));
            } else {
                self.look_at(pass, slot, path)?;
            }
        }
        Ok(())
    }

    /// A file's chain against its size.
    fn look_at(&mut self, pass: &mut Pass, slot: Slot, path: String) -> Result<(), FsError> {
        let geometry = self.tree.geometry;
        let wanted = geometry.clusters_of(u64::from(slot.size())) as u32;
        let (last, kept, rest) = self.needed(pass, slot.first(), wanted)?;
        let finding = match rest {
            Rest::Nothing => return Ok(()),
            Rest::Surplus(_) => Finding::Longer,
            Rest::Missing => Finding::Shorter {
                said: slot.size(),
                found: kept * geometry.cluster,
            },
            Rest::Damage(what) => Finding::Damage(what),
        };
        pass.findings.add(path, finding);
        if !matches!(finding, Finding::Damage(_)) {
            let room = pass.unfit.try_reserve(1);
            room.map_err(|_| FsError::NoMemory)?;
            pass.unfit.push(Unfit {
                slot,
                last,
                kept,
                rest,
            });
        }
        Ok(())
    }

    /// Marks the clusters of a chain, as many as are wanted (a directory's: all): the last of them, how many there are,
    /// and what is behind them.
    fn needed(
        &mut self,
        pass: &mut Pass,
        first: u32,
        wanted: u32,
    ) -> Result<(Option<u32>, u32, Rest), FsError> {
        let is_directory = wanted == u32::MAX;
        let (mut last, mut kept) = (None, 0);
        let mut next = Some(first).filter(|first| *first != 0);
        while let Some(cluster) = next {
            if self.tree.geometry.page_of(cluster).is_none() {
                let what = Rest::Damage("a cluster that is not there");
                return Ok((last, kept, what));
            }
            if kept == wanted {
                return Ok((last, kept, Rest::Surplus(cluster)));
            }
            next = match self.table().next(cluster) {
                Ok(Next::Cluster(next)) => Some(next),
                Ok(Next::End) => None,
                Ok(Next::Free) if is_directory => {
                    pass.shared = true;
                    return Ok((last, kept, Rest::Damage(FREE)));
                }
                Ok(Next::Free) => break,
                Err(FsError::Corrupt(what)) => return Ok((last, kept, Rest::Damage(what))),
                Err(e) => return Err(e),
            };
            if !pass.marks.mark(cluster) {
                pass.shared = true;
                return Ok((last, kept, Rest::Damage(SHARED)));
            }
            last = Some(cluster);
            kept += 1;
        }
        let missing = !is_directory && (kept < wanted || next.is_some());
        let rest = if missing {
            Rest::Missing
        } else {
            Rest::Nothing
        };
        Ok((last, kept, rest))
    }

    fn mend_all(&mut self, pass: &mut Pass) -> Result<(), FsError> {
        // A count that a cut has left may be wrong.
        self.free = None;
        for unfit in &pass.unfit {
            let size = u64::from(unfit.kept) * u64::from(self.tree.geometry.cluster);
            let size = u64::from(unfit.slot.size()).min(size) as u32;
            let first = if size == 0 { 0 } else { unfit.slot.first() };
            if let Some(last) = unfit.last {
                self.table().link(last, None)?;
            }
            let slot = unfit.slot.with(first, size);
            self.slots().put(&slot)?;
        }
        // Nothing leads to what is freed now.
        self.device.opener.sync()?;
        for unfit in &pass.unfit {
            if let Rest::Surplus(first) = unfit.rest {
                self.free_unmarked(&mut pass.marks, first)?;
            }
        }
        Ok(self.device.opener.sync()?)
    }

    /// Frees the clusters of a chain up to the first that somebody has.
    fn free_unmarked(&mut self, marks: &mut Marks, first: u32) -> Result<(), FsError> {
        let mut next = Some(first);
        while let Some(cluster) = next {
            let is_one = self.tree.geometry.page_of(cluster).is_some();
            if !is_one || !marks.mark(cluster) {
                break;
            }
            next = match self.table().next(cluster) {
                Ok(Next::Cluster(next)) => Some(next),
                Ok(Next::End) | Err(FsError::Corrupt(_)) => None,
                Ok(Next::Free) => break,
                Err(e) => return Err(e),
            };
            self.table().link(cluster, Some(0))?;
        }
        Ok(())
    }
}

/// A short name as people write it.
fn name(slot: &Slot) -> String {
    let raw = slot.name();
    let part = |bytes: &[u8]| String::from(String::from_utf8_lossy(bytes).trim_end());
    let (base, kind) = (part(&raw[..8]), part(&raw[8..]));
    if kind.is_empty() {
        base
    } else {
        alloc::format!("{base}.{kind}")
    }
}
