//! What a release is made of: archives, packages, a formula, an image file, the workflow, and the action that installs from it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_yaml::Value;

use crate::tool::Desk;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The target of the machine that runs the test: the action asks for its own.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml(file: &str) -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(root().join(file)).unwrap()).unwrap()
}

/// A small program that does what the tool does: the real one with its symbols is a hundred times larger.
fn program(desk: &Desk) -> PathBuf {
    let text = format!(
        "#!/bin/sh\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_scenario")
    );
    let path = desk.write("scenario", &text);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[track_caller]
fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn printed(command: &mut Command) -> String {
    String::from_utf8(done(command).stdout).unwrap()
}

/// The archive of this version, packed into `dist`.
fn archive(desk: &Desk) -> PathBuf {
    let mut pack = Command::new(root().join("packaging/archive"));
    pack.arg(program(desk)).arg(target()).arg(desk.path("dist"));
    let path = PathBuf::from(printed(&mut pack).trim());
    assert_eq!(
        path.file_name().unwrap().to_str(),
        Some(format!("scenario-{VERSION}-{}.tar.gz", target()).as_str())
    );
    path
}

#[test]
fn an_archive_holds_the_program_its_pages_and_its_completions() {
    let desk = Desk::new();
    let archive = archive(&desk);
    let first = std::fs::read(&archive).unwrap();
    let list = printed(Command::new("tar").arg("tzf").arg(&archive));
    for name in [
        "scenario",
        "man/man1/scenario.1",
        "man/man1/scenario-run.1",
        "completions/scenario.bash",
        "completions/_scenario",
        "completions/scenario.fish",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
    ] {
        let path = format!("scenario-{VERSION}-{}/{name}", target());
        assert!(
            list.lines().any(|line| line == path),
            "{path} is not in\n{list}"
        );
    }
    self::archive(&desk);
    assert!(
        first == std::fs::read(&archive).unwrap(),
        "packed again, it has other bytes"
    );
}

#[test]
fn a_debian_package_is_built_and_says_what_it_is() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        // Only Debian and its children have it.
        return;
    }
    let desk = Desk::new();
    let mut pack = Command::new(root().join("packaging/deb"));
    pack.arg(archive(&desk)).arg("amd64").arg(desk.path("dist"));
    let package = printed(&mut pack).trim().to_owned();
    assert!(
        package.ends_with(&format!("dist/scenario_{VERSION}_amd64.deb")),
        "{package}"
    );
    let field = |name: &str| {
        let mut ask = Command::new("dpkg-deb");
        printed(ask.args(["--field", &package, name]))
            .trim()
            .to_owned()
    };
    assert_eq!(field("Version"), VERSION);
    assert_eq!(field("Depends"), "");
    // Lintian takes a host without a dot for none, and no release is packed.
    let maintainer = field("Maintainer");
    let host = maintainer.split_once('@').unwrap().1;
    assert!(host.contains('.'), "{maintainer}");
    let contents = printed(Command::new("dpkg-deb").args(["--contents", &package]));
    for path in [
        "./usr/bin/scenario",
        "./usr/share/man/man1/scenario-run.1.gz",
        "./usr/share/bash-completion/completions/scenario",
        "./usr/share/zsh/vendor-completions/_scenario",
        "./usr/share/fish/vendor_completions.d/scenario.fish",
        "./usr/share/doc/scenario/copyright",
    ] {
        assert!(contents.contains(path), "{path} is not in\n{contents}");
    }
    assert!(
        contents.lines().all(|line| line.contains("root/root")),
        "{contents}"
    );
    let installed = desk.path("installed");
    done(
        Command::new("dpkg-deb")
            .args(["--extract", &package])
            .arg(&installed),
    );
    let version = printed(Command::new(installed.join("usr/bin/scenario")).arg("--version"));
    assert_eq!(version.trim(), format!("scenario {VERSION}"));
}

#[test]
fn a_formula_is_written_for_the_sources_and_not_for_nonsense() {
    let digest = "0".repeat(64);
    let write = |version: &str, digest: &str| {
        let mut write = Command::new(root().join("packaging/formula"));
        write.args([
            version,
            "https://example.org/scenario",
            "https://example.org/scenario.tar.gz",
            digest,
        ]);
        write.output().unwrap()
    };
    let written = write(VERSION, &digest);
    assert!(written.status.success());
    let formula = String::from_utf8(written.stdout).unwrap();
    assert!(
        formula.contains(&format!("sha256 \"{digest}\"")),
        "{formula}"
    );
    assert!(
        formula.contains("url \"https://example.org/scenario.tar.gz\"") && !formula.contains('@')
    );
    assert_eq!(write(VERSION, "f00").status.code(), Some(2));
    assert_eq!(write("latest", &digest).status.code(), Some(2));
    let desk = Desk::new();
    let path = desk.write("scenario.rb", &formula);
    if let Ok(checked) = Command::new("ruby").arg("-c").arg(path).output() {
        assert!(
            checked.status.success(),
            "{}",
            String::from_utf8_lossy(&checked.stderr)
        );
    }
    // The scenario of its test is one.
    let (_, rest) = formula.split_once("<<~YAML\n").unwrap();
    let (scenario, _) = rest.split_once("    YAML\n").unwrap();
    let scenario: String = scenario
        .lines()
        .map(|line| format!("{}\n", line.trim_start_matches("      ")))
        .collect();
    desk.write("gate.yaml", &scenario);
    let checked = desk.tool(&["check", "gate.yaml"]).with_code(0);
    assert!(checked.out.contains("1 cell"), "{}", checked.out);
    desk.tool(&["run", "gate.yaml", "--smoke", "--inconclusive", "warn"])
        .with_code(0);
}

/// The action's first step, as the runner would run it, from a place with releases on this disk.
fn install(desk: &Desk, wanted: &str, reference: &str) -> Output {
    let action = yaml("action.yml");
    let script = action["runs"]["steps"][0]["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = desk.write("install.sh", &script);
    let temporary = desk.path("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    std::fs::write(desk.path("path"), "").unwrap();
    Command::new("bash")
        .args(["--noprofile", "--norc", "-eo", "pipefail"])
        .arg(path)
        .env("TOOL", "/nowhere")
        .env("WANTED", wanted)
        .env("REF", reference)
        .env("REPOSITORY", "somebody/scenario")
        .env("SERVER", format!("file://{}", desk.path("").display()))
        .env("RUNNER_TEMP", temporary)
        .env("GITHUB_PATH", desk.path("path"))
        .output()
        .unwrap()
}

/// A release of this version on this disk; gives its folder and its digests.
fn release(desk: &Desk) -> (PathBuf, String) {
    let archive = archive(desk);
    let release = desk.path(&format!("somebody/scenario/releases/download/v{VERSION}"));
    std::fs::create_dir_all(&release).unwrap();
    let name = archive.file_name().unwrap();
    std::fs::copy(&archive, release.join(name)).unwrap();
    let sums = printed(Command::new("sha256sum").arg(name).current_dir(&release));
    std::fs::write(release.join("SHA256SUMS"), &sums).unwrap();
    (release, sums)
}

#[test]
fn the_action_installs_what_the_workflow_releases_and_nothing_else() {
    let desk = Desk::new();
    let (release, sums) = release(&desk);
    let tag = format!("v{VERSION}");
    for (wanted, reference) in [(VERSION, "main"), (&tag, "main"), ("", &tag)] {
        let installed = install(&desk, wanted, reference);
        assert!(
            installed.status.success(),
            "{}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let folder = std::fs::read_to_string(desk.path("path")).unwrap();
        let version =
            printed(Command::new(Path::new(folder.trim()).join("scenario")).arg("--version"));
        assert_eq!(version.trim(), format!("scenario {VERSION}"));
    }
    // Other bytes than those that were released are not installed.
    std::fs::write(
        release.join("SHA256SUMS"),
        sums.replacen(|c: char| c.is_ascii_hexdigit(), "z", 1),
    )
    .unwrap();
    assert!(!install(&desk, VERSION, "main").status.success());
    let spoiled = format!("{}{}", "0".repeat(64), &sums[64..]);
    std::fs::write(release.join("SHA256SUMS"), spoiled).unwrap();
    assert!(!install(&desk, VERSION, "main").status.success());
    // A release that does not exist is no reason to go on.
    assert!(!install(&desk, "99.0.0", "main").status.success());
    // What is no version is not built in its place.
    for wanted in ["latest", "0.1", "0.1.0 --force"] {
        let refused = install(&desk, wanted, "main");
        assert_eq!(refused.status.code(), Some(1), "{wanted}");
        assert_eq!(
            String::from_utf8_lossy(&refused.stdout),
            format!(
                "::error::`version: {wanted}` is neither a release, like 0.1.0, nor `source`\n"
            )
        );
    }
}

#[test]
fn the_gitlab_job_installs_a_release_from_where_it_is_told() {
    let desk = Desk::new();
    let (release, sums) = release(&desk);
    let job = &yaml("docs/ci/gitlab.yml")[".scenario"];
    assert_eq!(job["variables"]["SCENARIO_VERSION"].as_str(), Some(VERSION));
    let script = job["before_script"][0].as_str().unwrap();
    let path = desk.write("before.sh", &format!("{script}\nscenario --version\n"));
    let releases = format!("file://{}", release.parent().unwrap().display());
    // In an image without bash the runner takes `sh`.
    let job = |shell: &str, releases: &str| {
        let mut job = Command::new(shell);
        job.arg("-e").arg(&path).env("SCENARIO_VERSION", VERSION);
        job.env("SCENARIO_RELEASES", releases).output().unwrap()
    };
    for shell in ["bash", "sh"] {
        let done = job(shell, &releases);
        let told = String::from_utf8_lossy(&done.stdout);
        assert!(
            told.ends_with(&format!(": OK\nscenario {VERSION}\n")),
            "{done:?}"
        );
        let told = job(shell, "");
        assert!(!told.status.success());
        let told = String::from_utf8_lossy(&told.stderr);
        assert!(
            told.contains("SCENARIO_RELEASES: set it to where"),
            "{told}"
        );
    }
    let spoiled = format!("{}{}", "0".repeat(64), &sums[64..]);
    std::fs::write(release.join("SHA256SUMS"), spoiled).unwrap();
    assert!(!job("sh", &releases).status.success());
}

/// The step of the release that looks at the program, as the runner would run it.
#[test]
fn a_program_that_needs_others_is_not_released() {
    let workflow = yaml(".github/workflows/release.yml");
    let steps = workflow["jobs"]["program"]["steps"].as_sequence().unwrap();
    let mut scripts = steps.iter().filter_map(|step| step["run"].as_str());
    let script = scripts.find(|script| script.contains("ldd")).unwrap();
    let desk = Desk::new();
    let path = desk.write("step.sh", script);
    std::fs::create_dir_all(desk.path("target/here/dist")).unwrap();
    let program = desk.path("target/here/dist/scenario");
    let step = || {
        let mut step = Command::new("bash");
        step.args(["--noprofile", "--norc", "-eo", "pipefail"]);
        step.arg(&path).env("TARGET", "here");
        step.current_dir(desk.path("")).output().unwrap()
    };
    std::fs::copy("/bin/true", &program).unwrap();
    let refused = step();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stdout);
    assert!(told.contains("is linked dynamically"), "{told}");
    std::fs::remove_file(&program).unwrap();
    desk.write(
        "target/here/dist/scenario",
        "#!/bin/sh\necho it ran \"$2\"\n",
    );
    done(Command::new("chmod").arg("755").arg(&program));
    let taken = step();
    assert!(taken.status.success(), "{taken:?}");
    let told = String::from_utf8_lossy(&taken.stdout);
    assert_eq!(told, "it ran scenarios/quickstart.yaml\n");
}

#[test]
fn the_workflow_hangs_together_and_its_scripts_can_be_read() {
    let workflow = yaml(".github/workflows/release.yml");
    let jobs = workflow["jobs"].as_mapping().unwrap();
    let desk = Desk::new();
    let mut scripts = 0;
    for (name, job) in jobs {
        let needs = match &job["needs"] {
            Value::Sequence(list) => list.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        for need in needs {
            assert!(
                jobs.contains_key(&need),
                "{name:?} needs {need:?}, which is no job"
            );
        }
        for step in job["steps"].as_sequence().unwrap() {
            let Some(script) = step["run"].as_str() else {
                assert!(
                    step["uses"]
                        .as_str()
                        .is_some_and(|action| action.contains('@')),
                    "{step:?}"
                );
                continue;
            };
            let path = desk.write("step.sh", script);
            done(Command::new("bash").arg("-n").arg(path));
            scripts += 1;
            for word in script
                .split([' ', '(', '"'])
                .filter(|word| word.starts_with("packaging/"))
            {
                assert!(root().join(word).is_file(), "no {word}");
            }
        }
    }
    assert!(scripts >= 8, "{scripts} scripts");
    // The targets are those that the action asks for.
    let action = std::fs::read_to_string(root().join("action.yml")).unwrap();
    assert!(action.contains("scenario-$version-$(uname -m)-unknown-linux-musl"));
    let targets = jobs["program"]["strategy"]["matrix"]["include"]
        .as_sequence()
        .unwrap();
    let targets: Vec<&str> = targets
        .iter()
        .map(|one| one["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        targets,
        ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]
    );
}

#[test]
fn the_image_copies_everything_that_the_program_is_built_from() {
    let file = std::fs::read_to_string(root().join("Containerfile")).unwrap();
    let copied: Vec<&str> = file
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
        .flat_map(|line| line.split(' ').rev().skip(1))
        .collect();
    for name in &copied {
        assert!(root().join(name).exists(), "no {name}");
    }
    // Files that are built into the program lie in folders that are copied.
    let mut folders = vec![root().join("src")];
    let mut included = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for part in text.split("include_").skip(1) {
                    let quoted = part
                        .split('"')
                        .nth(1)
                        .filter(|name| name.starts_with("../"));
                    let Some(name) = quoted.map(|name| name.trim_start_matches("../")) else {
                        continue;
                    };
                    let top = name.split('/').next().unwrap();
                    if root().join(top).exists() {
                        included += 1;
                        assert!(
                            copied.contains(&top),
                            "{}: {name} is not copied",
                            path.display()
                        );
                    }
                }
            }
        }
    }
    assert!(included >= 5, "only {included} files were found");
}
