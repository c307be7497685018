//! `device`: the disk alone, at the sizes and depths that bound a log.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::{Common, DeviceArgs};
use crate::floors::{FloorKind, Floors};
use crate::noise::{Listening, REST, REST_SMOKE};
use crate::outcome::{self, Begun};
use crate::plan::check;
use crate::progress::Progress;
use crate::{Usage, folder};

const TIME: Duration = Duration::from_secs(2);
const TIME_SMOKE: Duration = Duration::from_millis(30);

const KINDS: [FloorKind; 12] = [
    FloorKind::LONE,
    FloorKind::durable(16 << 10, 1),
    FloorKind::durable(64 << 10, 1),
    FloorKind::durable(512 << 10, 1),
    FloorKind::durable(1 << 20, 1),
    FloorKind::durable(4 << 10, 4),
    FloorKind::durable(4 << 10, 8),
    FloorKind::durable(64 << 10, 4),
    FloorKind::durable(64 << 10, 8),
    FloorKind::durable(512 << 10, 4),
    FloorKind::sequential(64 << 10),
    FloorKind::SEQUENTIAL,
];

fn seconds_of_a_floor(seconds: f64) -> Result<Duration> {
    let time = Duration::try_from_secs_f64(seconds).context("--seconds")?;
    check::floor_time("--seconds", time)?;
    Ok(time)
}

pub(crate) fn run(args: &DeviceArgs) -> Result<ExitCode> {
    let time = match args.seconds {
        Some(seconds) => seconds_of_a_floor(seconds).map_err(Usage)?,
        None if args.common.smoke => TIME_SMOKE,
        None => TIME,
    };
    let dir: PathBuf = args.target.clone().unwrap_or_else(|| args.common.dir.clone());
    let common = Common { dir, out: args.common.out.clone(), ..args.common };
    let begun = Begun::new("device", &common, 0, String::new())?;
    let folder = folder::fresh(&common.dir)?;
    let progress = Progress::new();
    progress.say("preparing a file");
    let mut floors = Floors::new(folder.path(), &begun.device(), time, common.smoke)?;
    let mut listening = Listening::begin();
    let mut notes = vec![format!("depth 1 is by {}; deeper is by io_uring", floors.way())];
    progress.length(KINDS.len());
    for kind in KINDS {
        progress.say(&kind.name());
        listening.rest(if common.smoke { REST_SMOKE } else { REST });
        // The lone floor again each time: it tells whether the device kept still.
        floors.measure_for(FloorKind::LONE, time / 10)?;
        if let Err(error) = floors.measure(kind) {
            notes.push(format!("{}: {error:#}", kind.name()));
        }
    }
    progress.finish();
    folder.close().context("removing the folder of the run")?;
    let outcome = begun.end(|outcome| {
        outcome.noise = listening.noise(floors.spread());
        outcome.device = floors.figures();
        outcome.notes = notes;
    });
    outcome::tell(&outcome, &[], &common, &mut std::io::stdout())
}
