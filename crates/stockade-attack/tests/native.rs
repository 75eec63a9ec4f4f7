//! What hostile native code tries at each level, one trial an attempt. This program is the
//! supervisor, the launcher and the workers.

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<std::process::ExitCode> {
    use libtest_mimic::{Arguments, Trial};

    stockade_jail::run_if_launcher(stockade_attack::main, None);
    stockade_attack::plant_secrets()?;
    let mut trials: Vec<_> = stockade_attack::attacks()
        .map(|attack| {
            let name = format!("{:02} {}", attack.group, attack.name);
            Trial::test(name, move || linux::try_everywhere(attack))
        })
        .collect();
    trials.push(Trial::test(
        "39 every number that is not on the list",
        linux::sweep,
    ));
    Ok(libtest_mimic::run(&Arguments::from_args(), trials).exit_code())
}

#[cfg(target_os = "linux")]
mod linux {
    use libtest_mimic::Failed;
    use stockade_attack::{Arena, Attack, AttemptResult};
    use stockade_jail::{Level, Wx};

    const LEVELS: [(Level, Wx); 4] = [
        (Level::Process, Wx::Jit),
        (Level::Process, Wx::Strict),
        (Level::Container, Wx::Jit),
        (Level::Container, Wx::Strict),
    ];

    /// Makes the attempt at both levels, with and without a compiler.
    pub(super) fn try_everywhere(attack: &'static Attack) -> Result<(), Failed> {
        let mut broken = Vec::new();
        for (level, wx) in LEVELS {
            let report = Arena::open(level, wx).and_then(|arena| arena.run(attack));
            match report.map(|report| report.result) {
                Ok(AttemptResult::Held | AttemptResult::Skipped { .. }) => {}
                Ok(AttemptResult::Broken { why }) => {
                    broken.push(format!("{level:?}, {wx:?}: {why}"))
                }
                Err(error) => broken.push(format!("{level:?}, {wx:?}: {error}")),
            }
        }
        if broken.is_empty() {
            Ok(())
        } else {
            Err(broken.join("\n").into())
        }
    }

    /// The rules do not depend on the level.
    pub(super) fn sweep() -> Result<(), Failed> {
        for wx in [Wx::Jit, Wx::Strict] {
            let sweep = Arena::open(Level::Process, wx)
                .and_then(|arena| arena.sweep())
                .map_err(|error| error.to_string())?;
            if !sweep.others.is_empty() || sweep.denied < 400 {
                return Err(format!("{wx:?}: {sweep:?}").into());
            }
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {}
