//! `scenario mock`: the embedded simulator alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;

use super::args::MockArgs;
use super::console::Console;
use super::exit::Exit;
use super::signals;
use crate::engine::simulator::{self, FAULT_NAMES, Fault, PRESET_NAMES, SimulatorConfig};

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
    while interrupt.count() == 0 {
        interrupt.wait(Duration::from_secs(3600));
    }
    server.stop();
    Ok(Exit::Passed)
}
