//! `busctl top`: the buses with their stations and ports on one screen.

mod capture;
mod model;
mod render;

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, size};
use ratatui::layout::Rect;

use self::capture::LiveCapture;
use self::model::{Effect, Model};
use crate::context::Context;
use crate::misuse::misuse;
use crate::output;
use crate::process::shutdown::Shutdown;
use crate::quantity;
use crate::registry::{Registry, RegistryError};
use crate::survey::{Survey, Surveyor};

const NO_KEYS: &str = "cannot read the keyboard";
/// How long keys are waited for at most, so that a signal is noticed soon.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// The time between the two looks of `--once`, for its rates.
const ONCE_PAUSE: Duration = Duration::from_millis(500);
/// The size of the screen where there is none.
const USUAL_SIZE: (u16, u16) = (80, 24);

/// Show buses, stations and ports on one screen, live
///
/// The upper part lists the buses of this user, as 'busctl list' does, with the frames and bits that
/// are sent on each in a second. The lower part lists the stations and ports on the chosen bus, with
/// their rates and totals, and what was lost. A station receives from the bus, a port from its peer.
///
/// Keys: arrows choose, Tab another bus, / filters, s sorts, m shows memif peers and rings, c the
/// latest frame, ? all keys, q quits.
#[derive(Debug, clap::Args)]
#[command(after_help = "$NO_COLOR turns colours off.\n\n\
                        Examples:\n  \
                        busctl top\n  \
                        busctl top -w 0.5\n  \
                        busctl top --once\n  \
                        busctl top --once --json | jq '.buses[].on_it[] | {name, rx_pps}'")]
pub(crate) struct Args {
    /// Look every SEC seconds
    #[arg(short = 'w', long = "watch", value_name = "SEC", default_value = "1", value_parser = parse_pause)]
    pause: Duration,

    /// Print one screen as text, with rates over half a second, and end
    #[arg(long)]
    once: bool,

    /// Print JSON and not a screen: with --once one object, else one per line
    #[arg(long)]
    json: bool,
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    let good = Duration::from_millis(50)..=Duration::from_hours(1);
    quantity::seconds(text)
        .filter(|pause| good.contains(pause))
        .ok_or_else(|| "it takes a number of seconds from 0.05 to 3600".to_owned())
}

/// Shows the screen until a key or a signal ends it.
///
/// # Errors
/// When the state folder cannot be read; when stdin or stdout is not a terminal.
pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let registry = context.registry()?;
    if args.once {
        return once(args, &registry);
    }
    let stop = Shutdown::on_signals().context("cannot handle signals")?;
    if args.json {
        let mut surveyor = Surveyor::measuring();
        loop {
            output::print_json(&surveyor.look(&registry)?)?;
            output::stdout().flush()?;
            if stop.sleep(args.pause) {
                return Ok(());
            }
        }
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(misuse(anyhow!(
            "there is no terminal to draw on; 'busctl top --once' prints one screen, '--json' prints JSON"
        )));
    }
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let _restored = Restored;
    let mut model = Model::new(has_colours());
    let looks = Looks::begin(context.registry()?)?;
    let mut capture = LiveCapture::default();
    let mut next = Instant::now();
    let mut is_looking = false;
    while !stop.requested() {
        if !is_looking && !model.is_paused() && Instant::now() >= next {
            looks.ask();
            (is_looking, next) = (true, Instant::now() + args.pause);
        }
        if let Some(survey) = looks.answer() {
            model.show(survey?);
            is_looking = false;
        }
        let bus: Option<PathBuf> = model.bus_path().filter(|_| model.captures()).map(PathBuf::from);
        if let Some(line) = capture.latest(bus.as_deref()) {
            model.show_frame(line);
        }
        terminal
            .draw(|frame| render::draw(&model, frame.area(), frame.buffer_mut()))
            .context("cannot draw")?;
        if !wait_for_keys()? {
            break;
        }
        while has_key()? {
            let is_quit = |key: KeyEvent, model: &mut Model| {
                key.kind != KeyEventKind::Release && model.press(key) == Effect::Quit
            };
            match event::read().context(NO_KEYS)? {
                Event::Key(key) if is_quit(key, &mut model) => return Ok(()),
                // After a change of its size, the screen is drawn in any case.
                _ => {}
            }
        }
    }
    Ok(())
}

/// Waits for keys, for [`KEY_WAIT`] at most; a signal ends the wait. Returns `false` when the terminal is
/// gone: reading keys from that would never end.
fn wait_for_keys() -> anyhow::Result<bool> {
    let stdin = io::stdin();
    let mut keys = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut keys, PollTimeout::try_from(KEY_WAIT).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context(NO_KEYS),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    Ok(!keys[0].revents().is_some_and(|events| events.intersects(gone)))
}

/// Returns whether there is a key, or something else to read.
fn has_key() -> anyhow::Result<bool> {
    match event::poll(Duration::ZERO) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        read => read.context(NO_KEYS),
    }
}

/// A thread that looks at the buses, so that keys do not wait for it: on a machine with thousands of
/// processes a look takes a while.
struct Looks {
    questions: Sender<()>,
    answers: Receiver<Result<Survey, RegistryError>>,
}

impl Looks {
    /// Starts the thread. It ends soon after this value is dropped.
    fn begin(registry: Registry) -> anyhow::Result<Self> {
        let (questions, asked) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let look = move || {
            let mut surveyor = Surveyor::measuring();
            for () in asked {
                if answer.send(surveyor.look(&registry)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("looks".to_owned())
            .spawn(look)
            .context("cannot start a thread")?;
        Ok(Self { questions, answers })
    }

    /// Asks for a survey.
    fn ask(&self) {
        // The thread is there as long as this value.
        let _ = self.questions.send(());
    }

    /// Returns the survey that was asked for, once.
    fn answer(&self) -> Option<Result<Survey, RegistryError>> {
        self.answers.try_recv().ok()
    }
}

/// Prints one survey.
fn once(args: &Args, registry: &Registry) -> anyhow::Result<()> {
    let mut surveyor = Surveyor::measuring();
    surveyor.look(registry)?;
    thread::sleep(ONCE_PAUSE);
    let survey = surveyor.look(registry)?;
    if args.json {
        return Ok(output::print_json(&survey)?);
    }
    let (width, _) = size().ok().filter(|_| io::stdout().is_terminal()).unwrap_or(USUAL_SIZE);
    let mut text = String::new();
    let count = survey.buses.len().max(1);
    for index in 0..count {
        let mut model = Model::new(false);
        model.show_only(&survey, index);
        text.push_str(&screen(&model, width));
    }
    write!(output::stdout(), "{text}")?;
    Ok(())
}

/// Returns a screen that is as high as what is on it.
fn screen(model: &Model, width: u16) -> String {
    let area = Rect::new(0, 0, width, model.height());
    let mut buffer = Buffer::empty(area);
    render::draw(model, area, &mut buffer);
    let mut text = String::new();
    for line in render::lines(&buffer) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn has_colours() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Restores the terminal when it is dropped.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        // A terminal that was resized meanwhile may mix what is left of this screen with the one that
        // comes back.
        let _ = execute!(io::stdout(), Clear(ClearType::All));
        ratatui::restore();
    }
}
