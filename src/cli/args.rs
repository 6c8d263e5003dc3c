//! The command line as it is typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::live::Address;
use crate::report::Summary;
use crate::report::compat::Suite;
use crate::report::junit::Flavour;

/// Tests LLM inference servers from declarative scenario files, and exits with a code that CI can gate on.
#[derive(Debug, Parser)]
#[command(
    name = "scenario",
    version,
    disable_help_subcommand = true,
    after_help = "Start here:\n  scenario run scenarios/quickstart.yaml      a whole run on the embedded simulator\n  scenario quick http://localhost:8000 --users 16 --for 60s --slo \"P95 TTFT < 500ms\"\n  scenario help metrics                        what can be asserted"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Colours: when the output is a terminal, always, or never (NO_COLOR is honoured).
    // In every help text it stands behind the command's own options, however many commands there are.
    #[arg(long, global = true, display_order = 900, value_enum, default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenario files: load the engines, judge the SLOs, write reports, exit with a code for CI.
    #[command(
        after_help = "Examples:\n  scenario run scenarios/quickstart.yaml\n  scenario run gate.yaml --only vllm,chat --repeats 3\n  scenario run gate.yaml --simulate --smoke      without any engine, in seconds"
    )]
    Run(RunArgs),
    /// Measure one endpoint without a file.
    #[command(
        after_help = "Examples:\n  scenario quick http://localhost:8000 --users 16 --for 60s --slo \"P95 TTFT < 500ms\"\n  scenario quick http://localhost:8000 --rate 4/s --for 2m --slo \"error rate < 1%\" --save gate.yaml"
    )]
    Quick(QuickArgs),
    /// Send one request, and show event by event when it came and what it counts as.
    #[command(
        after_help = "Examples:\n  scenario try http://localhost:8000\n  scenario try localhost:8000 --prompt \"Name three rivers\" --max-tokens 16 --raw\n  scenario try https://api.example.com/v1 --model llama --bearer-env API_TOKEN\n\nExits with 0; with 3 when there was no answer."
    )]
    Try(TryArgs),
    /// Write the report of a saved run again: page, tables, JUnit; nothing is sent.
    #[command(
        after_help = "Examples:\n  scenario report results/gate/20260101T120000Z --open\n  scenario report nightly/report.json --out pages/nightly"
    )]
    Report(ReportArgs),
    /// Draw the plots of a saved run as files: throughput, latency, GPU, scaling, Pareto, SLOs.
    #[command(
        after_help = "Examples:\n  scenario plot results/gate/20260101T120000Z\n  scenario plot results/gate/20260101T120000Z --only throughput --format svg"
    )]
    Plot(PlotArgs),
    /// Judge a saved run by other SLOs, without running anything.
    #[command(
        after_help = "Examples:\n  scenario judge results/gate/20260101T120000Z stricter.yaml\n  scenario judge results/gate/20260101T120000Z gate.yaml --out judged\n\nOnly SLOs, guards and goodput may differ from the file that ran. Exits as `run` does."
    )]
    Judge(JudgeArgs),
    /// Compare saved runs: each number, the difference with its interval, and what may be said of it.
    #[command(
        after_help = "Examples:\n  scenario compare results/gate/main results/gate/branch\n  scenario compare old/report.json new/report.json --fail-on worse --format markdown\n\nExits with 0, or with 3 when nothing is comparable. Under --fail-on worse with 1 when a number is worse, and with 3 when\nthe first run has one that another cannot be held against: it failed, is not there, or cannot be believed."
    )]
    Compare(CompareArgs),
    /// Read result files of other tools, check what they say against itself, and keep them as a report.
    #[command(
        after_help = "Examples:\n  scenario import vllm=a.json sglang=b.json --out results/published\n  scenario import profile_export_aiperf.json -v\n\nReads `vllm bench serve`, guidellm, AIPerf, and the public suites 000 and 004 (docs/import.md). Exits with 3 when something\ncannot be believed."
    )]
    Import(ImportArgs),
    /// Keep a saved run as a baseline for assertions like `P95 TTFT <= baseline + 10%`, or show one.
    #[command(
        after_help = "Examples:\n  scenario baseline save results/gate/20260101T120000Z baselines/gate.json\n  scenario baseline show baselines/gate.json\n\nThe scenario names it: baseline: { file: baselines/gate.json }"
    )]
    Baseline(BaselineArgs),
    /// Check scenario files: every mistake at once, nothing is sent.
    #[command(
        after_help = "Examples:\n  scenario check scenarios/*.yaml\n  scenario check gate.yaml --format github        annotations on the lines of a pull request\n  scenario check gate.yaml --format sarif > check.sarif\n  scenario explain S031                           what a code means\n  scenario check gate.yaml --live                 is everything there that a run of it needs?\n\nExits with 0, or with 2 when a file is wrong or, with --live, something is missing."
    )]
    Check(CheckArgs),
    /// Explain the code of a diagnostic: what it means, a file that is wrong, and the same file put right.
    #[command(
        after_help = "Examples:\n  scenario explain S031\n  scenario explain            every code in a line"
    )]
    Explain {
        /// The code, like S031; without it, all of them in a line each.
        code: Option<String>,
    },
    /// Bring scenario files into the canonical layout; comments stay where they are.
    #[command(
        after_help = "Examples:\n  scenario fmt scenarios/*.yaml\n  scenario fmt --check scenarios/*.yaml      for CI: changes nothing, exits with 1 where a file is laid out otherwise\n  scenario fmt - < gate.yaml                  from standard input to standard output"
    )]
    Fmt(FmtArgs),
    /// Serve an editor over standard input and output: diagnostics, completion, hover, definitions, layout.
    #[command(
        after_help = "Examples:\n  scenario lsp      an editor starts it by itself, where it is named as the language server of YAML files\n\ndocs/editors.md has settings for some editors."
    )]
    Lsp,
    /// Show what a scenario would do: cells, stages, request counts, duration, samples for each percentile.
    #[command(
        after_help = "Examples:\n  scenario plan gate.yaml\n  scenario plan gate.yaml --only vllm,chat --repeats 3\n  scenario plan gate.yaml --arrivals arrivals.csv      every planned arrival; the same bytes on every run"
    )]
    Plan(PlanArgs),
    /// Show a scenario as one file: what it extends and includes, and its profile, laid together.
    #[command(
        after_help = "Examples:\n  scenario show gate.yaml --origin              where each value was written\n  scenario show gate.yaml --profile smoke --resolved"
    )]
    Show(ShowArgs),
    /// List what a scenario takes from outside: variables, secrets, profiles.
    #[command(after_help = "Examples:\n  scenario inputs gate.yaml")]
    Inputs(InputsArgs),
    /// Fetch the bases that scenarios extend on other hosts, and write down their digests in `scenario.lock`.
    #[command(
        after_help = "Examples:\n  scenario lock gate.yaml\n  scenario lock scenarios/*.yaml"
    )]
    Lock(LockArgs),
    /// Tell what changes from one scenario to another: cells, stages, requests, SLOs.
    #[command(after_help = "Examples:\n  scenario diff gate.yaml nightly.yaml")]
    Diff(DiffArgs),
    /// Put a scenario and all that it needs into one file that runs elsewhere; secrets stay names.
    #[command(
        after_help = "Examples:\n  scenario bundle gate.yaml -o gate.tar\n  scenario run gate.tar\n\nCommands of a bundle, like `launch`, run only with --allow-exec."
    )]
    Bundle(BundleArgs),
    /// Serve the embedded simulator alone: an OpenAI-compatible engine without a GPU.
    #[command(
        after_help = "Examples:\n  scenario mock --port 8000 --preset a100-llama-3.1-8b-vllm\n  scenario mock --port 8000 --fault error-500:every=10 --fault stall:after=4"
    )]
    Mock(MockArgs),
    /// Show the GPUs alone, of this machine or of a DCGM exporter, and record them.
    #[command(
        after_help = "Examples:\n  scenario gpu\n  scenario gpu --for 60s --record gpu.csv\n  scenario gpu --dcgm http://gpu-host:9400/metrics --for 5m"
    )]
    Gpu(GpuArgs),
    /// Measure what this machine can measure: streams, events and sends a second, beside a server whose every instant is known.
    #[command(
        after_help = "Examples:\n  scenario selftest\n  scenario selftest --quick --json -      a rough answer in seconds, for a program"
    )]
    Selftest(SelfTestArgs),
    /// Print the JSON Schema of scenario files, or of reports.
    #[command(
        after_help = "Examples:\n  scenario schema > scenario.v1.json\n  scenario schema --draft 7 > scenario.v1.json      for older editors\n  scenario schema --report                          of report.json"
    )]
    Schema {
        /// The schema of report.json instead.
        #[arg(long)]
        report: bool,
        /// The draft of JSON Schema that scenario files are described in; older editors read 7.
        #[arg(long, value_enum, default_value_t = SchemaDraft::Of2020, conflicts_with = "report")]
        draft: SchemaDraft,
    },
    /// Write a commented scenario file to start from: for an engine that runs here, or for the simulator.
    #[command(after_help = "Examples:
  scenario init                                    looks for a running engine, and asks at a terminal
  scenario init gate.yaml --url http://localhost:8000 --kind vllm --users 32 --ttft 1s
  scenario init --simulator                        no engine needed

Then: scenario check scenario.yaml, scenario plan scenario.yaml, scenario run scenario.yaml")]
    Init(InitArgs),
    /// Inspect, prepare, sample or generate prompt sets.
    #[command(
        after_help = "Examples:\n  scenario dataset inspect datasets/conversations.json\n  scenario dataset prepare --help"
    )]
    Dataset(super::dataset::DatasetArgs),
    /// List scenario files with their cells and expected duration.
    #[command(
        after_help = "Examples:\n  scenario list\n  scenario list scenarios/studies gate.yaml"
    )]
    List {
        /// Files or folders.
        #[arg(default_value = "scenarios")]
        paths: Vec<PathBuf>,
    },
    /// Print a script that completes commands and options in a shell.
    #[command(
        after_help = "Examples:\n  scenario completions bash > /etc/bash_completion.d/scenario\n  scenario completions zsh > ~/.zfunc/_scenario\n  scenario completions fish > ~/.config/fish/completions/scenario.fish"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print a manual page: of the tool, or of a command.
    #[command(
        after_help = "Examples:\n  scenario man | man -l -\n  scenario man run | man -l -\n  scenario man --dir /usr/local/share/man/man1"
    )]
    Man(ManArgs),
    /// Explain a topic: `metrics`, `exit-codes`, or a command.
    #[command(
        after_help = "Examples:\n  scenario help metrics\n  scenario help exit-codes\n  scenario help run"
    )]
    Help {
        /// The topic.
        topic: Option<String>,
    },
}

/// A draft of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaDraft {
    /// Draft-07.
    #[value(name = "7")]
    Seven,
    /// Draft 2020-12.
    #[value(name = "2020-12")]
    Of2020,
}

/// Options that say what goes into a file; shared by everything that reads one.
#[derive(Clone, Debug, Default, Args)]
pub struct InputOptions {
    /// Lay a profile of the file over it.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Give a variable of the file its value: `--var peak=16`.
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub vars: Vec<String>,
    /// Replace a value of the file: `--set run.seed=7 --set load.steady.stages=…` (YAML).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Options that change what a file means; shared by `run`, `plan`, `check`.
#[derive(Clone, Debug, Default, Args)]
pub struct FileOptions {
    /// Only cells whose id has each of these parts: `--only vllm,chat`.
    #[arg(long, value_name = "PARTS")]
    pub only: Vec<String>,
    /// What goes into the file.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Seed of everything random, in place of `run.seed`.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How often each cell runs, in place of `run.repeats`.
    #[arg(long)]
    pub repeats: Option<u32>,
    /// Replace every backend by the simulator preset nearest to it.
    #[arg(long)]
    pub simulate: bool,
    /// Shorten every stage to seconds and mark the report `smoke`: shows that a scenario works, not how an engine performs.
    #[arg(long)]
    pub smoke: bool,
}

/// `scenario run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Scenario files; each gets its own results.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What the files mean.
    #[command(flatten)]
    pub options: FileOptions,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
    /// Show the plan, send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// A file without SLOs is an error.
    #[arg(long)]
    pub require_slos: bool,
    /// Let commands run that were written elsewhere: in a bundle, or in a base of another host.
    #[arg(long)]
    pub allow_exec: bool,
}

/// How results are told.
#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// Where results go, in place of results/SCENARIO/TIME: a folder, or `s3://BUCKET/PREFIX` (also `gs://`), where they are put, too.
    /// The files of a run before in it are replaced or taken away.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Exit with 0 whatever the verdicts are.
    #[arg(long)]
    pub exit_zero: bool,
    /// What an inconclusive verdict does to the exit code.
    #[arg(long, value_enum, default_value_t = InconclusiveMode::Fail)]
    pub inconclusive: InconclusiveMode,
    /// How progress is shown on standard error.
    #[arg(long, value_enum, default_value_t = ProgressMode::Auto)]
    pub progress: ProgressMode,
    /// How much the summary on standard output tells.
    #[arg(long, value_enum, default_value_t = SummaryMode::Full)]
    pub summary: SummaryMode,
    /// List passed SLOs and guards, too.
    #[arg(short, long)]
    pub verbose: bool,
    /// Also write the summary as Markdown (for $GITHUB_STEP_SUMMARY).
    #[arg(long, value_name = "FILE")]
    pub summary_md: Option<PathBuf>,
    /// Also write the verdicts as TAP.
    #[arg(long, value_name = "FILE")]
    pub tap: Option<PathBuf>,
    /// Which reader junit.xml is for.
    #[arg(long, value_enum, default_value_t = JunitReader::Jenkins)]
    pub junit: JunitReader,
    /// Also write the files of these public suites, below `compat/`: suite-000, suite-001, suite-002, suite-004.
    #[arg(long, value_name = "SUITES", value_delimiter = ',', value_parser = suite)]
    pub compat: Vec<Suite>,
    /// Show report.html in the browser when the run is over.
    #[arg(long)]
    pub open: bool,
    /// Keep each output event's instant in requests.ndjson.
    #[arg(long)]
    pub record_events: bool,
    /// What is served while the run goes on.
    #[command(flatten)]
    pub live: LiveArgs,
}

/// What is served while a run goes on.
#[derive(Clone, Debug, Default, Args)]
pub struct LiveArgs {
    /// Serve the report's page while the run goes on: `127.0.0.1:8700`, or a port.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:8700")]
    pub dashboard: Option<Address>,
    /// Serve the run's numbers for Prometheus, at /metrics.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<Address>,
    /// What must be known to be served, for addresses that others reach.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "SCENARIO_TOKEN",
        hide_env_values = true
    )]
    pub token: Option<String>,
}

fn suite(name: &str) -> Result<Suite, String> {
    let known = Suite::ALL.iter().find(|(known, _)| *known == name);
    known.map(|(_, suite)| *suite).ok_or_else(|| {
        let names: Vec<&str> = Suite::ALL.iter().map(|(name, _)| *name).collect();
        format!("no suite is named so; there are {}", names.join(", "))
    })
}

/// Who reads junit.xml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JunitReader {
    /// Valid under the schema of its xUnit plugin.
    Jenkins,
    /// With the attribute `file` on each case, which GitLab links.
    Gitlab,
}

impl JunitReader {
    /// The flavour of the file.
    pub fn flavour(self) -> Flavour {
        match self {
            JunitReader::Jenkins => Flavour::Jenkins,
            JunitReader::Gitlab => Flavour::Gitlab,
        }
    }
}

/// What an inconclusive verdict does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InconclusiveMode {
    /// Exit 3.
    Fail,
    /// Exit 0 with a warning.
    Warn,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, else sparse lines.
    Auto,
    /// Bars.
    Bars,
    /// A line every 15 s and on each change of stage.
    Lines,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

/// How much the summary tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SummaryMode {
    /// What did not pass, and the status.
    Compact,
    /// Everything.
    Full,
    /// Nothing.
    None,
}

impl SummaryMode {
    /// What is shown.
    pub fn summary(self) -> Summary {
        match self {
            SummaryMode::Compact => Summary::Compact,
            SummaryMode::Full => Summary::Full,
            SummaryMode::None => Summary::None,
        }
    }
}

/// `scenario quick`.
#[derive(Clone, Debug, Args)]
pub struct QuickArgs {
    /// The endpoint, like http://localhost:8000.
    pub url: String,
    /// Closed loop: this many users, each sending its next request after the answer.
    #[arg(long, conflicts_with = "rate")]
    pub users: Option<u32>,
    /// Open loop: requests leave at this rate whatever the answers do, like `4/s`.
    #[arg(long)]
    pub rate: Option<String>,
    /// How long to measure.
    #[arg(long = "for", default_value = "30s", value_name = "DURATION")]
    pub duration: String,
    /// How long to warm up before.
    #[arg(long, default_value = "5s", value_name = "DURATION")]
    pub warmup: String,
    /// An SLO, like "P95 TTFT < 500ms"; may be given several times.
    #[arg(long = "slo", value_name = "ASSERTION")]
    pub slos: Vec<String>,
    /// The model to ask for, where the endpoint lists several.
    #[arg(long)]
    pub model: Option<String>,
    /// Cap on the answer's tokens.
    #[arg(long, default_value_t = 256)]
    pub max_tokens: u32,
    /// Prompts: a JSON, JSONL, ShareGPT or text file, in place of the built-in set.
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Environment variable with the bearer token.
    #[arg(long, value_name = "NAME")]
    pub bearer_env: Option<String>,
    /// Write the scenario file that this command stands for.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How results are told.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `scenario try`.
#[derive(Clone, Debug, Args)]
pub struct TryArgs {
    /// The endpoint, like http://localhost:8000.
    pub url: String,
    /// What is asked.
    #[arg(long, default_value = "Name the four seasons.")]
    pub prompt: String,
    /// Cap on the answer's tokens.
    #[arg(long, default_value_t = 32)]
    pub max_tokens: u32,
    /// The model to ask for, where the endpoint lists several.
    #[arg(long)]
    pub model: Option<String>,
    /// What kind of engine it is, as in `backends.ID.kind`: some tell the tokens of each event only when they are asked.
    #[arg(long, default_value = "openai")]
    pub kind: String,
    /// Which API is spoken, as in `backends.ID.api`.
    #[arg(long, default_value = "chat")]
    pub api: String,
    /// Environment variable with the bearer token.
    #[arg(long, value_name = "NAME")]
    pub bearer_env: Option<String>,
    /// Show each event as it came, too.
    #[arg(long)]
    pub raw: bool,
}

/// `scenario report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// A folder of results, or its report.json.
    #[arg(value_name = "RESULTS")]
    pub results: PathBuf,
    /// Where the files go, in place of the folder that they are made from.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Also write the verdicts as TAP.
    #[arg(long, value_name = "FILE")]
    pub tap: Option<PathBuf>,
    /// Which reader junit.xml is for.
    #[arg(long, value_enum, default_value_t = JunitReader::Jenkins)]
    pub junit: JunitReader,
    /// Also write the files of these public suites, below `compat/`: suite-000, suite-001, suite-002, suite-004.
    #[arg(long, value_name = "SUITES", value_delimiter = ',', value_parser = suite)]
    pub compat: Vec<Suite>,
    /// Rank backends by these shares in place of `throughput=0.4,latency_p50=0.3,efficiency=0.3`.
    #[arg(long, value_name = "NAME=SHARE", value_delimiter = ',')]
    pub weights: Vec<String>,
    /// Show report.html in the browser.
    #[arg(long)]
    pub open: bool,
    /// How much the summary on standard output tells.
    #[arg(long, value_enum, default_value_t = SummaryMode::Full)]
    pub summary: SummaryMode,
    /// List passed SLOs and guards, too.
    #[arg(short, long)]
    pub verbose: bool,
}

/// `scenario judge`.
#[derive(Clone, Debug, Args)]
pub struct JudgeArgs {
    /// A folder of results, or its report.json.
    #[arg(value_name = "RESULTS")]
    pub results: PathBuf,
    /// The scenario file with the SLOs.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the file was given when it ran.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Where report, page, tables and JUnit go; without it only the summary is told.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How much the summary on standard output tells.
    #[arg(long, value_enum, default_value_t = SummaryMode::Full)]
    pub summary: SummaryMode,
    /// List passed SLOs and guards, too.
    #[arg(short, long)]
    pub verbose: bool,
}

/// `scenario baseline`.
#[derive(Clone, Debug, Args)]
pub struct BaselineArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: BaselineAction,
}

/// What to do with a baseline.
#[derive(Clone, Debug, Subcommand)]
pub enum BaselineAction {
    /// Keep the report of a saved run.
    Save {
        /// A folder of results, or its report.json.
        results: PathBuf,
        /// The file to write.
        file: PathBuf,
        /// Replace a file that is there.
        #[arg(long)]
        force: bool,
    },
    /// Show what a baseline says, and what has to be the same for it to be used.
    Show {
        /// The baseline.
        file: PathBuf,
    },
}

/// `scenario plot`.
#[derive(Clone, Debug, Args)]
pub struct PlotArgs {
    /// A folder of results, or its report.json.
    #[arg(value_name = "RESULTS")]
    pub results: PathBuf,
    /// Only plots whose names begin so: `--only throughput,latency_heatmap`.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// What is written.
    #[arg(long, value_enum, default_value_t = PlotFormat::Png)]
    pub format: PlotFormat,
    /// Where the files go, in place of `plots` beside the report.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What a plot is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PlotFormat {
    Png,
    Svg,
}

/// `scenario compare`.
#[derive(Clone, Debug, Args)]
pub struct CompareArgs {
    /// Folders of results, or their report.json; all are compared with the first.
    #[arg(required = true, num_args = 2.., value_name = "RESULTS")]
    pub results: Vec<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = CompareFormat::Text)]
    pub format: CompareFormat,
    /// Where it is written, in place of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What makes the exit code 1.
    #[arg(long, value_enum)]
    pub fail_on: Option<FailOn>,
    /// List every row, also those that show no difference.
    #[arg(short, long)]
    pub verbose: bool,
}

/// `scenario import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Result files, as FILE or BACKEND=FILE; several of one load are its repeats.
    #[arg(required = true, value_name = "[BACKEND=]FILE")]
    pub files: Vec<String>,
    /// Where the report and its files go; without it nothing is written.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// List the checks that hold, too.
    #[arg(short, long)]
    pub verbose: bool,
}

/// How a comparison is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CompareFormat {
    Text,
    Markdown,
    Json,
    Html,
}

/// What makes a comparison fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any number is shown to be worse.
    Worse,
}

/// `scenario check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Scenario files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What the files mean.
    #[command(flatten)]
    pub options: FileOptions,
    /// Also look at the outside world: programs, ports, GPUs, memory, disk, clock, models, and the engines that are there already.
    /// Nothing is started, and no prompt is sent.
    #[arg(long)]
    pub live: bool,
    /// How diagnostics are written.
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub format: CheckFormat,
}

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people, with the lines of the file.
    Text,
    /// A JSON list.
    Json,
    /// SARIF 2.1.0, for code-scanning services.
    Sarif,
    /// Workflow commands of GitHub Actions: annotations on the lines of a pull request.
    Github,
}

/// `scenario fmt`.
#[derive(Clone, Debug, Args)]
pub struct FmtArgs {
    /// Scenario files, and folders of them; `-` reads standard input and writes standard output.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Change nothing; exit with 1 where a file is laid out otherwise.
    #[arg(long)]
    pub check: bool,
}

/// `scenario plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The scenario file.
    pub file: PathBuf,
    /// What the file means.
    #[command(flatten)]
    pub options: FileOptions,
    /// Write every planned arrival as CSV (to standard output with `-`).
    #[arg(long, value_name = "FILE")]
    pub arrivals: Option<PathBuf>,
}

/// `scenario mock`.
#[derive(Clone, Debug, Args)]
pub struct MockArgs {
    /// Port on the loopback address; 0 takes any free one.
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// Which published engine to resemble; `scenario mock --preset list` names them.
    #[arg(long, default_value = "fast")]
    pub preset: String,
    /// The model name to serve; any name is accepted without it.
    #[arg(long)]
    pub model: Vec<String>,
    /// A fault, like `error-500:every=10`; may be given several times, `--fault list` names them.
    #[arg(long = "fault", value_name = "FAULT")]
    pub faults: Vec<String>,
    /// Seed of answers and jitter.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many times faster than the engine that it resembles.
    #[arg(long, default_value_t = 1.0)]
    pub speed: f64,
    /// Require this bearer token.
    #[arg(
        long,
        value_name = "KEY",
        env = "SCENARIO_MOCK_API_KEY",
        hide_env_values = true
    )]
    pub api_key: Option<String>,
    /// Serve streams of a known beat instead of an engine, and log for each request when it came and when each event left:
    /// one JSON object a line, nanoseconds of the monotonic clock, arrivals by the kernel's stamp.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "model", "faults", "seed", "speed", "api_key"])]
    pub truth_log: Option<PathBuf>,
    /// With --truth-log: from a request to its first event.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "50ms",
        requires = "truth_log"
    )]
    pub first: String,
    /// With --truth-log: from event to event; `0ms` sends as fast as the socket takes them.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "50ms",
        requires = "truth_log"
    )]
    pub gap: String,
    /// With --truth-log: streams that begin together keep the same beat, as the steps of one engine do.
    #[arg(long, requires = "truth_log")]
    pub in_step: bool,
}

/// `scenario gpu`.
#[derive(Clone, Debug, Args)]
pub struct GpuArgs {
    /// The page of a DCGM exporter, in place of the GPUs of this machine.
    #[arg(long, value_name = "URL")]
    pub dcgm: Option<String>,
    /// Only these indices.
    #[arg(long, value_name = "INDICES", value_delimiter = ',')]
    pub devices: Vec<u32>,
    /// How long to watch; without it they are shown once.
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<String>,
    /// Between two samples; of an exporter at least 1s.
    #[arg(long, value_name = "DURATION", default_value = "250ms")]
    pub every: String,
    /// Write each sample as CSV; what is not known stays empty.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Play such a recording in place of GPUs.
    #[arg(long, value_name = "FILE", conflicts_with = "dcgm")]
    pub recorded: Option<PathBuf>,
}

/// `scenario selftest`.
#[derive(Clone, Debug, Args)]
pub struct SelfTestArgs {
    /// Steps of a second instead of four.
    #[arg(long)]
    pub quick: bool,
    /// Write what was measured as JSON (to standard output with `-`).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `scenario show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// The scenario file.
    #[arg(required_unless_present = "defaults")]
    pub file: Option<PathBuf>,
    /// What goes into it.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Replace every expression by its value; secrets stay names.
    #[arg(long)]
    pub resolved: bool,
    /// Behind each value, name the file and line where it was written.
    #[arg(long)]
    pub origin: bool,
    /// Instead of a scenario, show what holds where no file says anything else.
    #[arg(long, conflicts_with_all = ["file", "resolved", "origin", "profile", "vars", "sets"])]
    pub defaults: bool,
}

/// `scenario inputs`.
#[derive(Clone, Debug, Args)]
pub struct InputsArgs {
    /// The scenario file.
    pub file: PathBuf,
    /// What goes into it.
    #[command(flatten)]
    pub inputs: InputOptions,
}

/// `scenario lock`.
#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    /// Scenario files; the lock is beside each.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `scenario diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The scenario before.
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The scenario after.
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// What goes into both.
    #[command(flatten)]
    pub inputs: InputOptions,
}

/// `scenario bundle`.
#[derive(Clone, Debug, Args)]
pub struct BundleArgs {
    /// The scenario file.
    pub file: PathBuf,
    /// The bundle to write.
    #[arg(short, long, value_name = "FILE.tar")]
    pub out: PathBuf,
    /// What goes into the scenario.
    #[command(flatten)]
    pub inputs: InputOptions,
}

/// `scenario init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// The file to write.
    #[arg(default_value = "scenario.yaml")]
    pub file: PathBuf,
    /// The engine; without it, one that runs on this machine is looked for.
    #[arg(long)]
    pub url: Option<String>,
    /// Its model; needed where it serves several.
    #[arg(long)]
    pub model: Option<String>,
    /// What kind of engine it is, like `vllm`.
    #[arg(long)]
    pub kind: Option<String>,
    /// How many users the load has.
    #[arg(long, default_value_t = 8)]
    pub users: u32,
    /// The bound of the first SLO: 95 of 100 first tokens come within this time.
    #[arg(long, value_name = "DURATION", default_value = "500ms")]
    pub ttft: String,
    /// Where to look for a running engine, in place of the usual ports: 8000, 30000, 8080, 11434, 23333, 1234.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub ports: Vec<u16>,
    /// Look for no engine: the file uses the embedded simulator.
    #[arg(long, conflicts_with_all = ["url", "ports"])]
    pub simulator: bool,
    /// Ask nothing, also at a terminal.
    #[arg(short, long)]
    pub yes: bool,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// `scenario man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The command, like `run` or `baseline save`; the tool itself without it.
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write a page for the tool and for each command into this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::report::{MAY_BE_VALUED, VALUED};

    /// The command that runs a cell again is made of words, and knows by name which of them have a value behind them.
    #[test]
    fn every_option_with_a_value_is_known_to_the_command_that_runs_again() {
        let mut tool = Cli::command();
        tool.build();
        let (mut valued, mut may_be) = (BTreeSet::new(), BTreeSet::new());
        for command in ["run", "quick"] {
            let command = tool.find_subcommand(command).unwrap();
            for option in command.get_arguments().filter(|it| !it.is_positional()) {
                let values = option.get_num_args().unwrap();
                let name = format!("--{}", option.get_long().unwrap());
                match (values.min_values(), values.max_values()) {
                    (_, 0) => {}
                    (0, _) => drop(may_be.insert(name)),
                    (_, _) => {
                        assert_eq!(option.get_short(), None, "{name}");
                        valued.insert(name);
                    }
                }
            }
        }
        assert_eq!(valued, VALUED.map(str::to_owned).into());
        assert_eq!(may_be, MAY_BE_VALUED.map(str::to_owned).into());
    }
}
