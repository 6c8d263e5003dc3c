//! `scenario mock`: the embedded simulator alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::args::MockArgs;
use super::console::Console;
use super::exit::Exit;
use super::signals;
use crate::engine::simulator::{self, FAULT_NAMES, Fault, PRESET_NAMES, SimulatorConfig};
use crate::run::{Interrupt, raise_file_limit};
use crate::units::parse_duration;

pub(super) fn mock(args: &MockArgs, console: &Console) -> anyhow::Result<Exit> {
    if args.preset == "list" {
        console.data(&PRESET_NAMES.join("\n"));
        return Ok(Exit::Passed);
    }
    if args.faults.iter().any(|fault| fault == "list") {
        console.data(
            &FAULT_NAMES
                .iter()
                .map(|(name, meaning)| format!("{name:<20} {meaning}\n"))
                .collect::<String>(),
        );
        return Ok(Exit::Passed);
    }
    if let Some(log) = &args.truth_log {
        return truth(args, log, console);
    }
    anyhow::ensure!(
        args.speed.is_finite() && args.speed > 0.0,
        "--speed {} is not above 0",
        args.speed
    );
    let interrupt = signals::count(console, false)?;
    let faults = args
        .faults
        .iter()
        .map(|text| text.parse::<Fault>())
        .collect::<Result<Vec<_>, _>>()?;
    let config = SimulatorConfig {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        served_models: args.model.clone(),
        faults,
        seed: args.seed,
        speed: args.speed,
        api_key: args.api_key.clone(),
        ..SimulatorConfig::named(&args.preset)?
    };
    let server =
        simulator::start(config).with_context(|| format!("cannot serve on port {}", args.port))?;
    console.data(&format!(
        "simulated engine `{}` on {} (stop with Ctrl-C)",
        server.preset(),
        server.base_url()
    ));
    until_stopped(&interrupt);
    server.stop();
    Ok(Exit::Passed)
}

fn until_stopped(interrupt: &Interrupt) {
    while interrupt.count() == 0 {
        interrupt.wait(Duration::from_secs(3600));
    }
}

#[cfg(target_os = "linux")]
fn truth(args: &MockArgs, log: &Path, console: &Console) -> anyhow::Result<Exit> {
    use crate::selftest::truth::{self, LogTo, TruthConfig};
    let duration = |name: &str, text: &str| {
        parse_duration(text).map_err(|error| anyhow::anyhow!("{name} {text}: {error}"))
    };
    let interrupt = signals::count(console, false)?;
    raise_file_limit();
    let config = TruthConfig {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)),
        first: duration("--first", &args.first)?,
        gap: duration("--gap", &args.gap)?,
        spread: !args.in_step,
        log: LogTo::File(log.to_owned()),
    };
    let server = truth::start(&config).with_context(|| {
        format!(
            "cannot serve on port {} with the log `{}`",
            args.port,
            log.display()
        )
    })?;
    console.data(&format!(
        "truth server on {} (stop with Ctrl-C)",
        server.base_url()
    ));
    until_stopped(&interrupt);
    server.stop()?;
    Ok(Exit::Passed)
}

#[cfg(not(target_os = "linux"))]
fn truth(_: &MockArgs, _: &Path, _: &Console) -> anyhow::Result<Exit> {
    anyhow::bail!("--truth-log needs Linux: its instants are the kernel's")
}
