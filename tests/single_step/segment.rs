//! Creating and removing named rings, and checks that all kinds of rings share.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use slipring::{Error, Options, Ring, mpmc, spsc};

use crate::frames::payload;
use crate::{Case, Fate, Pace, Scene};

const NAME: &str = "ring";

/// Checks that `count` living participants are registered, and no dead ones.
pub fn only_the_living(ring: &Ring, count: usize) -> Result<(), String> {
    ring.reap_dead().map_err(|e| format!("sweep: {e}"))?;
    let participants = ring.participants().map_err(|e| e.to_string())?;
    if participants.len() == count && participants.iter().all(|participant| participant.alive) {
        Ok(())
    } else {
        Err(format!("{count} participants are alive, and these are there: {participants:?}"))
    }
}

/// A segment directory, removed when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(number: usize) -> Self {
        let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
        let path = base.join(format!("slipring-single-step-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The name of a kind, and its options.
type Shape = (&'static str, fn(&Path) -> Options);
const SPSC: Shape = ("spsc", |directory| Options::spsc(4096).participants(4).directory(directory));
const MPMC: Shape = ("mpmc", |directory| Options::mpmc(4, 64).participants(4).directory(directory));

type Does = fn(&Options);

/// Name, shape, whether the ring exists before, whether it exists afterwards, the operation.
const OPERATIONS: [(&str, Shape, bool, bool, Does); 9] = [
    ("create a ring", SPSC, false, true, |options| drop(Ring::create(NAME, options).unwrap())),
    ("create a ring", MPMC, false, true, |options| drop(Ring::create(NAME, options).unwrap())),
    ("open or create a ring", SPSC, false, true, |options| drop(Ring::open_or_create(NAME, options).unwrap())),
    ("open or create a ring", MPMC, true, true, |options| drop(Ring::open_or_create(NAME, options).unwrap())),
    ("remove a ring", SPSC, true, false, |options| Ring::remove(NAME, options).unwrap()),
    ("open, attach, close", SPSC, true, true, |options| spsc::Producer::open(NAME, options).unwrap().close()),
    ("open, attach, close", SPSC, false, true, |options| spsc::Consumer::open(NAME, options).unwrap().close()),
    ("open, attach, close", MPMC, true, true, |options| mpmc::Producer::open(NAME, options).unwrap().close()),
    ("open, attach, close", MPMC, false, true, |options| mpmc::Consumer::open(NAME, options).unwrap().close()),
];

pub fn cases() -> Vec<Case> {
    let case = |(number, (operation, shape, before, after, does)): (usize, (&'static str, Shape, bool, bool, Does))| {
        let directory = Rc::new(Directory::new(number));
        let state = format!("{}, {}", shape.0, if before { "there" } else { "not there" });
        let scene = Box::new(move || making(&directory, shape, before, after, does));
        Case { operation, state, pace: Pace::Sample, scene }
    };
    OPERATIONS.into_iter().enumerate().map(case).collect()
}

fn making(directory: &Rc<Directory>, shape: Shape, before: bool, after: bool, does: Does) -> Scene {
    let directory = Rc::clone(directory);
    let options = shape.1(&directory.0);
    Ring::directory(&options).unwrap(); // creates it
    let _ = Ring::remove(NAME, &options);
    let mapped = before.then(|| Ring::create(NAME, &options).unwrap());
    let theirs = options.clone();
    Scene {
        child: Box::new(move |_| Box::new(move |_| does(&theirs))),
        fate: Fate::Kill(Box::new(move |page| {
            let fail = |e: Error| format!("a survivor got: {e}");
            let there = match Ring::open(NAME, &options) {
                Ok(ring) => intact(&ring).map(|()| true)?,
                Err(Error::NotFound) => false,
                Err(e) => return Err(fail(e)),
            };
            if (page.is_complete() && there != after) || (before && after && !there) {
                return Err(format!("there: {there}; it was there before: {before}, complete: {}", page.is_complete()));
            }
            nothing_else(&directory, there)?;
            // A handle opened before works as long as the ring has its name; without the name it
            // refuses to attach.
            match &mapped {
                Some(ring) if there => intact(ring)?,
                Some(ring) => refused(ring)?,
                None => {}
            }
            // A process can open or create a ring under the name.
            intact(&Ring::open_or_create(NAME, &options).map_err(fail)?)?;
            nothing_else(&directory, true)?;
            // The result is not compared with that of earlier stops: how many instructions precede
            // the creation of the name differs from run to run (clock, numbers in files of /proc),
            // so a later stop may lie before it.
            Ok(0)
        })),
    }
}

fn nothing_else(directory: &Directory, there: bool) -> Result<(), String> {
    let names: Vec<_> = std::fs::read_dir(&directory.0)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
        .unwrap_or_default();
    let expected: &[&str] = if there { &[NAME] } else { &[] };
    if names == expected { Ok(()) } else { Err(format!("the directory holds {names:?}")) }
}

/// Sends and receives a frame.
fn intact(ring: &Ring) -> Result<(), String> {
    let fail = |e: Error| format!("a survivor got: {e}");
    if ring.slots() > 0 {
        let (tx, rx) = (mpmc::Producer::attach(ring).map_err(fail)?, mpmc::Consumer::attach(ring).map_err(fail)?);
        tx.try_send(&payload(1)).map_err(fail)?;
        rx.try_recv().map_err(fail).and_then(|view| same(&view))?;
    } else {
        let (mut tx, mut rx) =
            (spsc::Producer::attach(ring).map_err(fail)?, spsc::Consumer::attach(ring).map_err(fail)?);
        tx.try_send(&payload(1)).map_err(fail)?;
        rx.try_recv().map_err(fail).and_then(|view| same(&view))?;
    }
    let report = ring.verify().map_err(fail)?;
    if !report.is_clean() {
        return Err(format!("{report:?}"));
    }
    only_the_living(ring, 0)
}

/// A ring whose name was removed, and that has no participants, gets none.
fn refused(ring: &Ring) -> Result<(), String> {
    match spsc::Consumer::attach(ring) {
        Err(Error::NotFound) => Ok(()),
        Err(e) => Err(format!("attaching to a removed ring: {e}")),
        Ok(_) => Err("a consumer attached to a removed ring".to_owned()),
    }
}

fn same(bytes: &[u8]) -> Result<(), String> {
    if bytes == payload(1) { Ok(()) } else { Err(format!("sent frame 1, received {bytes:?}")) }
}
