//! `serin status --watch`: where rollouts stand, live, on the whole terminal. Drawn by [`ratatui`], which writes only what changed.

use crate::commands::status::standing;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Tone, counted, has_colors};
use crate::site::Site;
use crate::view::{Evidence, Running, View, next, tone_of};
use anyhow::anyhow;
use jiff::Timestamp;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serin_controller::ports::{ActiveFlow, Ledger};
use serin_core::rollout::FlowName;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::sync::mpsc;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// What is on the screen.
struct Screen {
    stage: String,
    now: Timestamp,
    /// When a tick was served last.
    last_tick: Option<Timestamp>,
    flows: Vec<ActiveFlow>,
    selected: usize,
    view: Option<View>,
    /// Why the last look failed.
    trouble: Option<String>,
    colors: bool,
}

/// Shows it until somebody leaves.
pub(crate) async fn run(mut site: Site, flow: Option<FlowName>) -> Outcome {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::not_accepted(anyhow!("--watch wants a terminal; without one ask `serin status FLOW` again and again")));
    }
    let mut screen = Screen::of(&site);
    // The first look says at once what is wrong, on a terminal that is still as it was.
    let looked = look(&mut site, flow.as_ref(), None).await?;
    screen.take(looked);
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, screen, &mut site, flow.as_ref()).await;
    ratatui::try_restore()?;
    shown?;
    Ok(Code::Done)
}

/// What a look found.
struct Looked {
    flows: Vec<ActiveFlow>,
    selected: usize,
    view: Option<View>,
    now: Timestamp,
    last_tick: Option<Timestamp>,
}

/// Looks at all flows, and closely at the chosen one.
async fn look(site: &mut Site, flow: Option<&FlowName>, chosen: Option<(FlowName, usize)>) -> anyhow::Result<Looked> {
    site.renew().await.map_err(|failure| failure.error)?;
    let mut flows = site.ledger.active().await?;
    flows.retain(|active| flow.is_none_or(|flow| active.flow == *flow));
    let place = chosen.map_or(0, |(chosen, at)| flows.iter().position(|active| active.flow == chosen).unwrap_or(at));
    let selected = place.min(flows.len().saturating_sub(1));
    // One that nobody visits any more has a record all the same.
    let view = match flows.get(selected).map(|active| &active.flow).or(flow) {
        Some(flow) => Some(View::of(site, flow).await?),
        None => None,
    };
    Ok(Looked { flows, selected, view, now: site.now, last_tick: site.ledger.last_tick().await? })
}

async fn show(terminal: &mut ratatui::DefaultTerminal, mut screen: Screen, site: &mut Site, flow: Option<&FlowName>) -> anyhow::Result<()> {
    let mut keys = keys();
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        let wanted = tokio::select! {
            _ = ended.recv() => return Ok(()),
            _ = ticks.tick() => true,
            event = keys.recv() => match event {
                None | Some(Key::Leave) => return Ok(()),
                Some(Key::Redraw) => false,
                Some(Key::By(step)) => screen.select(step),
            },
        };
        if !wanted {
            continue;
        }
        terminal.draw(|frame| screen.draw(frame))?;
        let chosen = screen.flows.get(screen.selected).map(|active| (active.flow.clone(), screen.selected));
        let looking = look(site, flow, chosen);
        tokio::pin!(looking);
        // Whoever wants to leave does not wait for an answer.
        let looked = loop {
            tokio::select! {
                looked = &mut looking => break Some(looked),
                _ = ended.recv() => return Ok(()),
                event = keys.recv() => match event {
                    None | Some(Key::Leave) => return Ok(()),
                    Some(Key::Redraw) => { terminal.draw(|frame| screen.draw(frame))?; }
                    // Another flow is looked at instead.
                    Some(Key::By(step)) => if screen.select(step) { break None },
                },
            }
        };
        match looked {
            Some(Ok(looked)) => screen.take(looked),
            Some(Err(error)) => screen.trouble = Some(format!("{error:#}")),
            None => ticks.reset_immediately(),
        }
    }
}

enum Key {
    Leave,
    Redraw,
    /// So many flows down.
    By(isize),
}

/// What is typed, read beside: the terminal has no other way to wait for it.
fn keys() -> mpsc::UnboundedReceiver<Key> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Resize(..) => Key::Redraw,
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Key::Leave,
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Leave,
                    KeyCode::Down | KeyCode::Char('j') => Key::By(1),
                    KeyCode::Up | KeyCode::Char('k') => Key::By(-1),
                    KeyCode::PageDown => Key::By(10),
                    KeyCode::PageUp => Key::By(-10),
                    _ => continue,
                },
                _ => continue,
            };
            if sender.send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Screen {
    fn of(site: &Site) -> Screen {
        Screen {
            stage: site.context.as_ref().map_or_else(|| site.stage.clone(), |context| format!("{} ({context})", site.stage)),
            now: site.now,
            last_tick: None,
            flows: Vec::new(),
            selected: 0,
            view: None,
            trouble: None,
            colors: has_colors(),
        }
    }

    /// Shows what was found.
    fn take(&mut self, looked: Looked) {
        let Looked { flows, selected, view, now, last_tick } = looked;
        *self =
            Screen { stage: std::mem::take(&mut self.stage), colors: self.colors, now, last_tick, flows, selected, view, trouble: None };
    }

    /// Another flow; whether there is one.
    fn select(&mut self, by: isize) -> bool {
        let last = self.flows.len().saturating_sub(1);
        let selected = self.selected.saturating_add_signed(by).min(last);
        let moved = selected != self.selected;
        self.selected = selected;
        moved
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let many = if self.flows.len() > 1 { (self.flows.len() as u16).min(frame.area().height / 4) + 1 } else { 0 };
        let [title, list, view, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Length(many), Constraint::Min(0), Constraint::Length(1)])
                .areas(frame.area());
        frame.render_widget(Paragraph::new(self.title(title.width)).style(self.style(Modifier::REVERSED)), title);
        frame.render_widget(Paragraph::new(self.list(list.width, many.saturating_sub(1))), list);
        self.draw_view(frame, view);
        frame.render_widget(Paragraph::new(self.foot()), foot);
    }

    fn title(&self, width: u16) -> String {
        let ticked = match self.last_tick {
            Some(at) => format!("tick {}", at.strftime("%H:%M:%SZ")),
            None => "no tick yet".to_owned(),
        };
        let count = counted(self.flows.len(), "flow", "flows");
        let width = usize::from(width);
        let title = format!(" serin  stage {}  {}  {count}  {ticked}", self.stage, self.now.strftime("%Y-%m-%d %H:%M:%SZ"));
        format!("{:<width$}", cut(&title, width))
    }

    fn foot(&self) -> Line<'static> {
        match &self.trouble {
            Some(trouble) => Line::styled(format!(" could not look: {trouble}"), self.toned(Tone::Bad)),
            None if self.flows.len() > 1 => Line::raw(" q leaves   up/down another flow"),
            None => Line::raw(" q leaves"),
        }
    }

    /// The flows around the selected one.
    fn list(&self, width: u16, height: u16) -> Vec<Line<'static>> {
        let (width, height) = (usize::from(width), usize::from(height));
        let first = (self.selected + 1).saturating_sub(height.max(1));
        let line = |(n, active): (usize, &ActiveFlow)| {
            let mark = if n == self.selected { ">" } else { " " };
            let (weight, since) = standing(active, self.now);
            let text = format!("{mark} {:<24} {:<17}{weight:>8}  {since}", cut(active.flow.as_str(), 24), active.phase);
            Line::styled(cut(&text, width), self.toned(tone_of(&active.phase)))
        };
        self.flows.iter().enumerate().skip(first).take(height).map(line).collect()
    }

    fn draw_view(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(view) = &self.view else {
            let advice = wrapped("no flow is watched; `serin start FILE --reason …` opens a rollout", area.width.into());
            frame.render_widget(Paragraph::new(advice.into_iter().map(|line| Line::raw(format!(" {line}"))).collect::<Vec<_>>()), area);
            return;
        };
        let Some(rollout) = &view.rollout else {
            frame.render_widget(Paragraph::new(format!(" {}: no rollout yet", view.flow)), area);
            return;
        };
        let facts = self.facts(view, rollout, area.width);
        let mut said = self.said(rollout, area.width.into());
        // Two entries are in sight on the smallest screen that is worth looking at.
        said.truncate(usize::from(area.height).saturating_sub(facts.len() + 3));
        let entries = self.entries(view, area.width);
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(facts.len() as u16), Constraint::Length(said.len() as u16), Constraint::Min(0)])
                .areas(area);
        frame.render_widget(Paragraph::new(facts), top);
        frame.render_widget(Paragraph::new(said), middle);
        frame.render_widget(Paragraph::new(entries), bottom);
    }

    fn facts(&self, view: &View, rollout: &Running, width: u16) -> Vec<Line<'static>> {
        let bold = self.style(Modifier::BOLD);
        let mut room = usize::from(width);
        let mut fitting = |text: String| {
            let text = cut(&text, room);
            room -= text.chars().count();
            text
        };
        let mut lines = vec![
            Line::from(vec![
                Span::styled(fitting(format!(" {}  ", view.flow)), bold),
                Span::raw(fitting(format!("{}  ", rollout.id))),
                Span::styled(fitting(rollout.shown.clone()), self.toned(tone_of(rollout.phase)).patch(bold)),
                Span::raw(fitting(format!("  {}", rollout.lasts))),
            ]),
            Line::raw(format!(" version {}, {}, mode {}, steps {}", rollout.version, rollout.strategy, rollout.mode, rollout.way())),
            Line::raw(format!(" weight {}", view.weight())),
        ];
        let restricted = view.restrictions.iter().flat_map(|said| wrapped(said, usize::from(width.saturating_sub(1))));
        lines.extend(restricted.map(|said| Line::styled(format!(" {said}"), self.toned(Tone::Busy))));
        if rollout.is_watched {
            lines.push(Line::raw(""));
            lines.extend(rollout.table().lines().map(|line| Line::raw(format!(" {line}"))));
            lines.push(Line::raw(""));
        }
        if let Some(evidence) = &rollout.evidence {
            lines.extend(self.bars(evidence, width));
        }
        lines
    }

    fn bars(&self, evidence: &Evidence, width: u16) -> Vec<Line<'static>> {
        let room = usize::from(width.saturating_sub(44)).clamp(10, 100);
        let tones = [Tone::Bad, Tone::Good];
        let line = |((label, bar, said), tone): ((String, String, String), Tone)| {
            Line::from(vec![Span::raw(format!(" {label:<12}[")), Span::styled(bar, self.toned(tone)), Span::raw(format!("] {said}"))])
        };
        evidence.bars(room).into_iter().zip(tones).map(line).collect()
    }

    /// What would be decided now.
    fn said(&self, rollout: &Running, width: usize) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        if let Some(now) = &rollout.now {
            let bold = self.style(Modifier::BOLD);
            for (label, text) in [("now", now.sentence.clone()), ("next look", next(now)), ("would change", now.would_change.clone())] {
                let mut label = format!(" {label:<13}");
                for line in wrapped(&text, width.saturating_sub(label.len())) {
                    lines.push(Line::from(vec![Span::styled(label, bold), Span::raw(line)]));
                    label = " ".repeat(14);
                }
            }
        }
        lines.push(Line::raw(""));
        lines
    }

    fn entries(&self, view: &View, width: u16) -> Vec<Line<'static>> {
        let mut lines = vec![Line::styled(" latest entries", self.style(Modifier::BOLD))];
        lines.extend(view.entries.iter().map(|entry| {
            let at = entry.at.strftime("%m-%d %H:%M");
            Line::raw(cut(&format!(" {at}  {:<19} {}", entry.event, entry.why), usize::from(width)))
        }));
        lines
    }

    fn style(&self, modifier: Modifier) -> Style {
        Style::new().add_modifier(modifier)
    }

    fn toned(&self, tone: Tone) -> Style {
        let color = match tone {
            _ if !self.colors => return Style::new(),
            Tone::Good => Color::Green,
            Tone::Busy => Color::Yellow,
            Tone::Bad => Color::Red,
            Tone::Plain => return Style::new(),
        };
        Style::new().fg(color)
    }
}

/// A text in lines that fit, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width {
            line.extend((!line.is_empty()).then_some(' ').into_iter().chain(word.chars()));
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// A text that fits, with dots where something is left out.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true if width == 0 => String::new(),
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(width: u16, height: u16, flows: usize) -> String {
        let (opened, seen, recalled, now) = view::tests::stepping();
        let view = View::seen(&opened.book.entries[0].entry.flow, &opened, &seen, Some(&recalled), &[], now);
        let running = view.rollout.as_ref().expect("a rollout");
        let active = |n: usize| ActiveFlow {
            flow: format!("main_ivr_{n}").parse().expect("a name"),
            phase: running.phase.to_owned(),
            visit_until: None,
            rollout: running.id.clone(),
            weight: running.weight,
            since: running.since,
            revision: 7,
            why: String::new(),
        };
        let screen = Screen {
            stage: "prod".into(),
            now,
            last_tick: Some(now),
            flows: (0..flows).map(active).collect(),
            selected: flows.saturating_sub(2),
            view: Some(view),
            trouble: (flows > 3).then(|| "the ledger could not be reached: it did not answer".to_owned()),
            colors: false,
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| screen.draw(frame)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn a_small_and_a_large_terminal_show_the_same_facts() {
        for (width, height, flows) in [(80, 24, 1), (80, 24, 30), (200, 50, 3), (40, 10, 2)] {
            let drawn = screen(width, height, flows);
            assert_eq!(drawn.lines().count(), usize::from(height), "{drawn}");
            assert!(drawn.contains("stage prod") && drawn.contains("Stepping at 5 %"), "{drawn}");
            if width >= 80 {
                for word in [
                    "stable",
                    "canary",
                    "errors",
                    "abandoned",
                    "to rollback",
                    "to 25 %",
                    "now",
                    "next look",
                    "latest entries",
                    "StepStarted",
                ] {
                    assert!(drawn.contains(word), "{word} is not there\n{drawn}");
                }
            }
        }
        assert!(screen(80, 24, 30).contains("> main_ivr_28"), "the selected flow is in sight");
        assert!(screen(80, 24, 30).contains("could not look: the ledger could not be reached"));
    }

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("calls that look worse at the next weight", 16), ["calls that look", "worse at the", "next weight"]);
        assert_eq!(cut("main_ivr", 5), "main…");
    }
}
