//! The power is cut at every point of a program on a FAT volume, and any of the writes that were
//! not flushed then are lost: what was synced is there.
//!
//! The program runs once, and the disk writes down what it does. Everything is written back after
//! each step, so that every page that may be on the disk is. Then each moment's disk is put
//! together again, mounted, and looked at.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};

use arch::PAGE_SIZE;
use arch::block::SECTOR;
use arch::simctl::{self, DiskEvent, data_disk};
use fastrand::Rng;
use fs::{Finding, FsError, Volume};
use mm::knobs::{self, Knob};

use super::Outcome;
use super::fat::{FAT12, FAT16, on_disk, write};
use super::fat32::{FAT32, count_is_right, make_fat32};
use super::file::{PAGE, bytes};
use crate::check;
use crate::selftest::{Failure, TestCtx};

/// One step. Files are made when they are written first.
#[derive(Clone, Debug)]
enum Step {
    /// At this byte, so many.
    Write(&'static str, usize, usize),
    /// Behind the end.
    Append(&'static str, usize),
    Cut(&'static str, usize),
    Sync(&'static str),
    SyncAll,
    Remove(&'static str),
    Directory(&'static str),
    RemoveDirectory(&'static str),
}

use Step::{Append, Cut, Directory, Remove, RemoveDirectory, Sync, SyncAll, Write};

/// What the directed program does: appends, cuts and removals without a sync, whose clusters others
/// would like to have.
const PROGRAM: &[Step] = &[
    Write("/a", 0, 9000),
    Sync("/a"),
    Append("/a", 5000),
    Write("/A long name", 0, 6000),
    Sync("/A long name"),
    Cut("/a", 3000),
    Write("/c", 0, 9000),
    Sync("/c"),
    Remove("/A long name"),
    Write("/d", 0, 6000),
    Sync("/d"),
    SyncAll,
    Append("/a", 10_000),
    Sync("/a"),
    Directory("/dir"),
    Write("/dir/e", 0, 5000),
    Sync("/dir/e"),
    Cut("/a", 0),
    Write("/f", 0, 12_000),
    Append("/a", 100),
    SyncAll,
    Cut("/c", 5000),
    Append("/c", 9000),
    Remove("/d"),
    Sync("/c"),
    Write("/g", 0, 9000),
    Write("/c", 4000, 200),
    Remove("/dir/e"),
    RemoveDirectory("/dir"),
    SyncAll,
];

const NAMES: [&str; 4] = ["/a", "/A long name", "/c", "/d"];

fn by_chance(rng: &mut Rng) -> Vec<Step> {
    let step = |rng: &mut Rng| {
        let name = NAMES[rng.usize(..NAMES.len())];
        match rng.u8(..16) {
            0..5 => Append(name, rng.usize(1..13_000)),
            5 => Write(name, rng.usize(..12_000), rng.usize(1..6000)),
            6..9 => Cut(name, rng.usize(..14_000)),
            9..11 => Remove(name),
            11 => SyncAll,
            _ => Sync(name),
        }
    };
    (0..24).map(|_| step(rng)).collect()
}

/// What a file may hold: what it held at its last sync, and what it has held since. None: there was
/// no such file.
#[derive(Clone, Default)]
struct States(Vec<Option<Vec<u8>>>);

impl States {
    fn now(&self) -> Option<&Vec<u8>> {
        self.0.last()?.as_ref()
    }

    fn then(&mut self, state: Option<Vec<u8>>) {
        if self.0.is_empty() {
            self.0.push(None);
        }
        self.0.push(state);
    }

    fn synced(&mut self) {
        if let Some(last) = self.0.pop() {
            self.0 = vec![last];
        }
    }

    /// What is wrong with what was found, if anything.
    fn judge(&self, found: Option<&[u8]>) -> Result<(), String> {
        let Some(found) = found else {
            let may_be_gone = self.0.is_empty() || self.0.iter().any(Option::is_none);
            return may_be_gone.then_some(()).ok_or("it is gone".to_string());
        };
        let was = || self.0.iter().flatten();
        let lengths = || was().map(Vec::len);
        let least = if self.0.iter().any(Option::is_none) {
            0
        } else {
            lengths().min().unwrap_or(0)
        };
        let most = lengths().max().ok_or("it never was")?;
        if !(least..=most).contains(&found.len()) {
            return Err(format!(
                "{} bytes long: {least} to {most} expected",
                found.len()
            ));
        }
        for (i, byte) in found.iter().enumerate() {
            let right = was().any(|state| state.get(i) == Some(byte));
            // Where it was cut off, zeroes may be on their way already.
            if !right && !(i >= least && *byte == 0) {
                return Err(format!("byte {i} is {byte:#x}, which it never was"));
            }
        }
        Ok(())
    }
}

type Model = BTreeMap<&'static str, States>;

fn carry_out(volume: &Volume, model: &mut Model, step: &Step, round: u8) -> Outcome {
    let name = match step {
        Write(name, ..) | Append(name, _) | Cut(name, _) | Sync(name) | Remove(name) => name,
        SyncAll => {
            volume.sync()?;
            model.values_mut().for_each(States::synced);
            return Ok(());
        }
        Directory(name) => return Ok(volume.make_directory(name)?),
        RemoveDirectory(name) => return Ok(volume.remove(name)?),
    };
    let states = model.entry(name).or_default();
    let mut content = states.now().cloned();
    let mut open = || match content.take() {
        Some(content) => Ok::<_, Failure>(Some((volume.open(name)?, content))),
        None if matches!(step, Write(..) | Append(..)) => {
            Ok(Some((volume.create(name)?, Vec::new())))
        }
        None => Ok(None),
    };
    let Some((file, mut content)) = open()? else {
        return Ok(());
    };
    // What may be on the disk from now on, whatever has been done of it.
    let mut change = |content: &Vec<u8>| states.then(Some(content.clone()));
    match *step {
        Write(_, pos, len) => put(&file, &mut content, pos, len, round, &mut change)?,
        Append(_, len) => {
            let end = content.len();
            put(&file, &mut content, end, len, round, &mut change)?;
        }
        Cut(_, size) => {
            let size = size.min(content.len());
            content.truncate(size);
            change(&content);
            file.truncate(size as u64)?;
        }
        Sync(_) => {
            file.sync()?;
            states.synced();
        }
        Remove(_) => {
            drop(file);
            states.then(None);
            volume.remove(name)?;
        }
        SyncAll | Directory(_) | RemoveDirectory(_) => {}
    }
    Ok(())
}

fn put(
    file: &fs::File,
    content: &mut Vec<u8>,
    pos: usize,
    len: usize,
    round: u8,
    change: &mut impl FnMut(&Vec<u8>),
) -> Outcome {
    if content.is_empty() {
        // It is made, empty.
        change(content);
    }
    let data = bytes(pos, len, round);
    content.resize(content.len().max(pos + len), 0);
    content[pos..pos + len].copy_from_slice(&data);
    change(content);
    write(file, pos, &data)
}

/// After which steps everything is written back. What is then goes to the disk with the next flush,
/// whoever sends it: a flush that is missing shows where it was not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Back {
    Always,
    ByChance,
}

/// What the disk did, and from which event on which states are possible.
struct Story {
    events: Vec<DiskEvent>,
    models: Vec<(usize, Model)>,
}

fn run(steps: &[Step], back: Back, rng: &mut Rng) -> Result<Story, Failure> {
    let mut story = Story {
        events: Vec::new(),
        models: Vec::from([(0, Model::new())]),
    };
    let volume = fs::mount()?;
    data_disk().record();
    let mut model = Model::new();
    for (round, step) in steps.iter().enumerate() {
        // While a sync is under way the older states are possible, until it has returned.
        let mut after = model.clone();
        let done = carry_out(&volume, &mut after, step, round as u8 + 1);
        if !matches!(step, Sync(_) | SyncAll) {
            // A change may be seen as soon as it is made.
            let begun = story.events.len();
            story.models.push((begun, after.clone()));
        }
        story.events.extend(data_disk().record());
        story.models.push((story.events.len(), after.clone()));
        model = after;
        if back == Back::Always || rng.bool() {
            mm::file::write_back();
        }
        story.events.extend(data_disk().record());
        if let Err(e) = done {
            data_disk().recorded();
            drop(volume);
            fs::abandon()?;
            return Err(e);
        }
    }
    data_disk().recorded();
    drop(volume);
    fs::abandon()?;
    Ok(story)
}

const WORDS: usize = SECTOR as usize / 8;
/// What is put together again: all that a program touches.
const SECTORS: u64 = (2 << 20) / SECTOR;

pub(super) fn snapshot() -> Vec<u64> {
    let word = |i: usize| data_disk().word((i / WORDS) as u64, i % WORDS);
    (0..SECTORS as usize * WORDS).map(word).collect()
}

fn restore(disk: &[u64]) {
    // Nothing waits to be lost any more.
    simctl::power_cut(0);
    for (i, &word) in disk.iter().enumerate() {
        data_disk().set_word((i / WORDS) as u64, i % WORDS, word);
    }
}

fn apply(disk: &mut [u64], event: &DiskEvent, mut sector: impl FnMut() -> bool) {
    let DiskEvent::Write { sector: at, words } = event else {
        return;
    };
    for (i, words) in words.chunks(WORDS).enumerate() {
        if sector() {
            let first = (*at as usize + i) * WORDS;
            disk[first..first + WORDS].copy_from_slice(words);
        }
    }
}

/// Every disk that a cut after some event can leave, once each, with the states that are possible
/// then.
fn each_disk(
    base: &[u64],
    story: &Story,
    rng: &mut Rng,
    mut f: impl FnMut(&[u64], &Model) -> Outcome,
) -> Result<u32, Failure> {
    let mut seen = BTreeSet::new();
    let hash = std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new();
    let (mut durable, mut since) = (base.to_vec(), 0);
    let mut cuts = 0;
    for end in 0..=story.events.len() {
        if end > 0 && matches!(story.events[end - 1], DiskEvent::Flush) {
            let done = &story.events[since..end];
            done.iter().for_each(|e| apply(&mut durable, e, || true));
            since = end;
        }
        let open = &story.events[since..end];
        // The states of the step that is under way: those that were possible when it began, or it
        // adds.
        let at = story.models.iter().rposition(|(from, _)| *from <= end);
        let (at, model) = at
            .map(|i| (i, &story.models[i].1))
            .ok_or(Failure::new("no states"))?;
        for lost in choices(open.len(), rng) {
            let mut disk = durable.clone();
            for (i, event) in open.iter().enumerate() {
                match lost {
                    Lost::Pages(mask) => apply(&mut disk, event, || mask >> (i % 64) & 1 == 0),
                    Lost::Sectors => apply(&mut disk, event, || rng.bool()),
                }
            }
            let mut hasher = hash.build_hasher();
            disk.iter().for_each(|word| hasher.write_u64(*word));
            if seen.insert((at, hasher.finish())) {
                cuts += 1;
                f(&disk, model)?;
            }
        }
    }
    Ok(cuts)
}

enum Lost {
    /// These writes, a bit for each.
    Pages(u64),
    /// Any sectors.
    Sectors,
}

/// All subsets of few writes; of many none, all, each one, all but each one, and some by chance.
/// And sectors by chance.
fn choices(n: usize, rng: &mut Rng) -> Vec<Lost> {
    let single = |i: usize| 1_u64 << (i % 64);
    let pages: Vec<u64> = if n <= 5 {
        (0..1 << n).collect()
    } else {
        let each = (0..n.min(64)).flat_map(|i| [single(i), !single(i)]);
        let by_chance = (0..8).map(|_| rng.u64(..));
        [0, u64::MAX]
            .into_iter()
            .chain(each)
            .chain(by_chance)
            .collect()
    };
    let pages = pages.into_iter().map(Lost::Pages);
    pages.chain((0..8).map(|_| Lost::Sectors)).collect()
}

fn content(volume: &Volume, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let file = match volume.open(name) {
        Ok(file) => file,
        Err(FsError::NotFound | FsError::NotDirectory) => return Ok(None),
        Err(e) => return Err(Failure::new(format!("{name}: {e}"))),
    };
    let mut found = vec![0; file.size() as usize];
    let n = file.read(0, &mut found)?;
    check!(n == found.len(), "{name}: {n} of {} bytes", found.len());
    Ok(Some(found))
}

fn look(volume: &Volume, model: &Model) -> Outcome {
    for (name, states) in model {
        let found = content(volume, name)?;
        let judged = states.judge(found.as_deref());
        judged.map_err(|e| Failure::new(format!("{name}: {e}")))?;
    }
    // A rule that is broken on purpose must do worse than that.
    for (path, finding) in &volume.info()?.findings.list {
        let expected = *finding == Finding::Longer || !knobs::on(Knob::FatOrder);
        check!(expected, "{path}: {finding}");
    }
    Ok(())
}

/// The disk is mounted; what was synced is there, and stays when others use what is free.
fn examine(disk: &[u64], model: &Model, also_use: bool) -> Outcome {
    restore(disk);
    let volume = fs::mount()?;
    let mut looked = look(&volume, model);
    if looked.is_ok() && also_use {
        let new = volume.create("/new file");
        looked = new.map_err(Failure::from).and_then(|file| {
            write(&file, 0, &bytes(0, 20 * PAGE, 99))?;
            volume.sync()?;
            look(&volume, model)
        });
    }
    drop(volume);
    fs::abandon()?;
    looked
}

/// Runs a program and cuts it at each point; how many disks that are. The first `taken` clusters
/// are another file's.
fn cut_all(
    size: u64,
    taken: usize,
    steps: &[Step],
    back: Back,
    rng: &mut Rng,
) -> Result<u32, Failure> {
    let mut cuts = 0;
    on_disk(size.max(FAT12), || {
        if size == FAT32 {
            make_fat32()?;
        }
        if taken > 0 {
            let volume = fs::mount()?;
            volume.create("/taken")?.truncate((taken * PAGE) as u64)?;
            drop(volume);
            fs::unmount()?;
        }
        let base = snapshot();
        let story = run(steps, back, rng)?;
        let mut nr = 0;
        let mut choose = Rng::with_seed(rng.u64(..));
        let all = each_disk(&base, &story, &mut choose, |disk, model| {
            nr += 1;
            if size == FAT32 {
                count_is_right(disk)?;
            }
            examine(disk, model, nr % 8 == 0)
        });
        restore(&base);
        cuts = all?;
        Ok(())
    })?;
    Ok(cuts)
}

pub(super) fn every_cut_leaves_what_was_synced(ctx: &mut TestCtx<'_>) -> Outcome {
    const _: () = assert!(SECTORS * SECTOR >= 200 * PAGE_SIZE);
    let mut rng = Rng::with_seed(ctx.seed);
    for size in [FAT12, FAT16, FAT32] {
        let cuts = cut_all(size, 0, PROGRAM, Back::Always, &mut rng)?;
        check!(cuts > 200, "only {cuts} disks");
        let steps = by_chance(&mut rng);
        cut_all(size, 0, &steps, Back::ByChance, &mut rng).map_err(|e| match e {
            Failure::Wrong(what) => Failure::new(format!("{what}, of {steps:?}")),
            skipped => skipped,
        })?;
    }
    Ok(())
}

/// A removed file's clusters are free only when nothing leads to them, also where nothing else has
/// changed.
pub(super) fn removal_comes_before_freeing(ctx: &mut TestCtx<'_>) -> Outcome {
    const STEPS: &[Step] = &[
        Write("/a", 0, 9000),
        Write("/c", 0, 9000),
        SyncAll,
        Remove("/a"),
        Sync("/c"),
        Write("/c", 0, 100),
    ];
    let mut rng = Rng::with_seed(ctx.seed);
    (0..16).try_for_each(|_| cut_all(FAT12, 0, STEPS, Back::ByChance, &mut rng).map(drop))
}

/// FAT32's root directory becomes longer.
pub(super) fn a_root_directory_grows(ctx: &mut TestCtx<'_>) -> Outcome {
    let file = |i: usize| &*format!("/{i:0>250}").leak();
    let mut steps = Vec::new();
    for i in 0..8 {
        steps.extend([Write(file(i), 0, 100), Sync(file(i))]);
    }
    steps.extend([Remove(file(0)), Write(file(8), 0, 100), SyncAll]);
    cut_all(
        FAT32,
        0,
        &steps,
        Back::Always,
        &mut Rng::with_seed(ctx.seed),
    )
    .map(drop)
}

/// FAT12 has entries that lie in two sectors, and a cut may leave half of one: a number of any
/// cluster, or of none. This cluster has the first.
const SPLIT: usize = 341;

/// Half an entry is behind the end of a file.
pub(super) fn half_an_entry_is_behind_the_end(ctx: &mut TestCtx<'_>) -> Outcome {
    const STEPS: &[Step] = &[
        Write("/a", 0, 4000),
        Sync("/a"),
        Append("/a", 9000),
        Sync("/a"),
        Write("/c", 0, 9000),
        Append("/a", 9000),
        SyncAll,
        Cut("/a", 100),
        Sync("/a"),
        Append("/a", 20_000),
        Sync("/a"),
        Cut("/a", 9000),
        Cut("/c", 100),
        SyncAll,
    ];
    // What follows the split entry is cluster 0x156, and half of that with half of an end is 0x15f,
    // which is another file's.
    const OF_ANOTHER: &[Step] = &[
        Write("/a", 0, 4000),
        Write("/c", 0, 4000),
        Write("/b", 0, 80_000),
        SyncAll,
        Remove("/c"),
        SyncAll,
        Append("/a", 4000),
        Sync("/a"),
        Cut("/a", 100),
        Sync("/a"),
    ];
    let mut rng = Rng::with_seed(ctx.seed);
    for used in 0..6 {
        cut_all(FAT12, SPLIT - 2 - used, STEPS, Back::Always, &mut rng)?;
    }
    cut_all(FAT12, SPLIT - 2, OF_ANOTHER, Back::Always, &mut rng)?;
    Ok(())
}

/// And never in a directory's chain.
pub(super) fn no_directory_has_half_an_entry(ctx: &mut TestCtx<'_>) -> Outcome {
    // Each takes 21 of a cluster's 128 slots.
    let file = |i: usize| &*format!("/dir/{i:0>250}").leak();
    let mut steps = vec![Directory("/dir")];
    for i in 0..8 {
        steps.extend([Write(file(i), 0, 100), Sync(file(i))]);
    }
    let mut rng = Rng::with_seed(ctx.seed);
    cut_all(FAT12, SPLIT - 2, &steps, Back::Always, &mut rng).map(drop)
}

/// Where clusters are free as soon as they are taken from a file, some cut leaves what was synced
/// with the content of another.
pub(super) fn broken_fat_order_is_noticed(ctx: &mut TestCtx<'_>) -> Outcome {
    let mut rng = Rng::with_seed(ctx.seed);
    let was = knobs::set(Knob::FatOrder, false);
    let found = cut_all(FAT12, 0, PROGRAM, Back::Always, &mut rng);
    knobs::set(Knob::FatOrder, was);
    check!(found.is_err(), "every cut was good");
    Ok(())
}
