//! What a mount looks at, and mends: chains longer than their file's size are trimmed, sizes longer
//! than the chain shortened.
//!
//! The directories say what there is. A first pass goes through all of them and marks the clusters
//! that their entries need; a cluster that two need, or that is free, makes the volume read-only,
//! as a write to one file would be one to another; so does a directory that cannot be read to its
//! end, as nobody knows what is in the rest, or that has a short name twice. What is behind the end
//! of a file is freed only when nobody has it marked, and after the chain's new end is durable.
//! Memory: a bit for each cluster, and some bytes for each directory, all of it asked for. Sleeps;
//! nobody else has the volume yet.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;

use crate::FsError;
use crate::geometry::{FIRST, Geometry};
use crate::slots::{self, Place, Slot};
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
    /// With this cluster, or with a number that is no cluster's.
    Surplus(Option<u32>),
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

/// A directory that is to be looked at.
struct Dir {
    place: Place,
    /// Its short name, and which of the others it is in; the root is the first of them.
    name: [u8; 11],
    parent: usize,
}

struct Pass {
    marks: Marks,
    findings: Findings,
    unfit: Vec<Unfit>,
    dirs: Vec<Dir>,
    /// What is free, or one file's, may be another's.
    unsure: bool,
}

const SHARED: &str = "a cluster that is another's too";
const FREE: &str = "a cluster that is free as well";
const TWICE: &str = "two entries of this name";

impl Pass {
    fn new(geometry: &Geometry) -> Result<Self, FsError> {
        let mut pass = Self {
            marks: Marks::new(geometry)?,
            findings: Findings::default(),
            unfit: Vec::new(),
            dirs: Vec::new(),
            unsure: false,
        };
        add(
            &mut pass.dirs,
            Dir {
                place: Place::root(geometry),
                name: [b' '; 11],
                parent: 0,
            },
        )?;
        Ok(pass)
    }

    /// Notes a finding about what is called `name` in a directory, or, without a name, about that
    /// directory.
    fn found(
        &mut self,
        dir: usize,
        name: Option<[u8; 11]>,
        finding: Finding,
    ) -> Result<(), FsError> {
        self.findings.count += 1;
        if self.findings.list.len() == KEPT {
            return Ok(());
        }
        // From the last name to the first; as long as a hostile image makes it.
        let (mut names, mut dir): (Vec<[u8; 11]>, _) = (Vec::new(), dir);
        if let Some(name) = name {
            add(&mut names, name)?;
        }
        while dir != 0 {
            add(&mut names, self.dirs[dir].name)?;
            dir = self.dirs[dir].parent;
        }
        let mut path = String::new();
        for name in names.iter().rev() {
            let name = readable(name);
            let room = path.try_reserve(1 + name.len());
            room.map_err(|_| FsError::NoMemory)?;
            path.push('/');
            path.push_str(&name);
        }
        add(&mut self.findings.list, (path, finding))
    }
}

/// Adds to a list.
///
/// # Errors
/// NoMemory.
fn add<T>(list: &mut Vec<T>, item: T) -> Result<(), FsError> {
    list.try_reserve(1).map_err(|_| FsError::NoMemory)?;
    list.push(item);
    Ok(())
}

impl State {
    /// Mends what a power cut has left.
    ///
    /// # Errors
    /// Io, NoMemory.
    pub(crate) fn mend(&mut self) -> Result<Findings, FsError> {
        let mut pass = Pass::new(&self.tree.geometry)?;
        let mut dir = 0;
        while dir < pass.dirs.len() {
            match self.look_into(&mut pass, dir) {
                // It has entries that were not seen.
                Err(FsError::Corrupt(what)) => {
                    pass.unsure = true;
                    pass.found(dir, None, Finding::Damage(what))?;
                }
                other => other?,
            }
            dir += 1;
        }
        if pass.unsure && self.read_only.is_none() {
            self.read_only = Some("it is damaged");
        }
        if self.read_only.is_none() && !pass.unfit.is_empty() {
            self.mend_all(&mut pass)?;
            pass.findings.mended = true;
        }
        Ok(pass.findings)
    }

    fn look_into(&mut self, pass: &mut Pass, dir: usize) -> Result<(), FsError> {
        let place = pass.dirs[dir].place;
        if let Place::Chain(first) = place {
            let most = self.tree.geometry.most_of_directory();
            let (_, _, rest) = self.needed(pass, first, most, true)?;
            match rest {
                Rest::Damage(what) => return Err(FsError::Corrupt(what)),
                Rest::Surplus(_) => return Err(FsError::Corrupt(slots::TOO_LONG)),
                Rest::Nothing | Rest::Missing => {}
            }
        }
        let mut entries: Vec<Slot> = Vec::new();
        let full = self.slots().each(place, |slot| {
            if slot.is_end() {
                return ControlFlow::Break(Ok(()));
            }
            if slot.is_entry()
                && let Err(e) = add(&mut entries, slot)
            {
                return ControlFlow::Break(Err(e));
            }
            ControlFlow::Continue(())
        })?;
        full.unwrap_or(Ok(()))?;
        // An entry is found again by its short name.
        entries.sort_unstable_by_key(Slot::name);
        for two in entries
            .windows(2)
            .filter(|two| two[0].name() == two[1].name())
        {
            pass.unsure = true;
            pass.found(dir, Some(two[0].name()), Finding::Damage(TWICE))?;
        }
        for slot in entries {
            if slot.is_directory() {
                let below = Dir {
                    place: Place::Chain(slot.first()),
                    name: slot.name(),
                    parent: dir,
                };
                add(&mut pass.dirs, below)?;
            } else {
                self.look_at(pass, slot, dir)?;
            }
        }
        Ok(())
    }

    /// A file's chain against its size.
    fn look_at(&mut self, pass: &mut Pass, slot: Slot, dir: usize) -> Result<(), FsError> {
        let geometry = self.tree.geometry;
        let wanted = geometry.clusters_of(u64::from(slot.size())) as u32;
        let (last, kept, rest) = self.needed(pass, slot.first(), wanted, false)?;
        let finding = match rest {
            Rest::Nothing => return Ok(()),
            Rest::Surplus(_) => Finding::Longer,
            Rest::Missing => Finding::Shorter {
                said: slot.size(),
                found: kept * geometry.cluster,
            },
            Rest::Damage(what) => Finding::Damage(what),
        };
        pass.found(dir, Some(slot.name()), finding)?;
        if !matches!(finding, Finding::Damage(_)) {
            let unfit = Unfit {
                slot,
                last,
                kept,
                rest,
            };
            add(&mut pass.unfit, unfit)?;
        }
        Ok(())
    }

    /// Marks the clusters of a chain, as many as are wanted (of a directory: as it can have): the
    /// last of them, how many there are, and what is behind them.
    fn needed(
        &mut self,
        pass: &mut Pass,
        first: u32,
        wanted: u32,
        is_directory: bool,
    ) -> Result<(Option<u32>, u32, Rest), FsError> {
        let (mut last, mut kept) = (None, 0);
        let mut next = Some(first).filter(|first| *first != 0);
        while let Some(cluster) = next {
            let is_one = self.tree.geometry.page_of(cluster).is_some();
            if kept == wanted {
                let rest = Rest::Surplus(next.filter(|_| is_one));
                return Ok((last, kept, rest));
            }
            if !is_one {
                let what = Rest::Damage("a cluster that is not there");
                return Ok((last, kept, what));
            }
            next = match self.table().next(cluster) {
                Ok(Next::Cluster(next)) => Some(next),
                Ok(Next::End) => None,
                // The last that it needs: a cut may have left half an entry of FAT12 there.
                Err(FsError::Corrupt(_)) if kept + 1 == wanted && !is_directory => Some(0),
                Ok(Next::Free) if is_directory => {
                    pass.unsure = true;
                    return Ok((last, kept, Rest::Damage(FREE)));
                }
                Ok(Next::Free) => break,
                Err(FsError::Corrupt(what)) => return Ok((last, kept, Rest::Damage(what))),
                Err(e) => return Err(e),
            };
            if !pass.marks.mark(cluster) {
                pass.unsure = true;
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
        self.begin_change()?;
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
        let device = self.device.clone();
        self.sync_disk(&device.opener)?;
        for unfit in &pass.unfit {
            if let Rest::Surplus(Some(first)) = unfit.rest {
                self.free_unmarked(&mut pass.marks, first)?;
            }
        }
        self.sync_disk(&device.opener)
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
fn readable(raw: &[u8; 11]) -> String {
    let part = |bytes: &[u8]| String::from(String::from_utf8_lossy(bytes).trim_end());
    let (base, kind) = (part(&raw[..8]), part(&raw[8..]));
    if kind.is_empty() {
        base
    } else {
        alloc::format!("{base}.{kind}")
    }
}
