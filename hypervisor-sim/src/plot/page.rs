//! One page with everything: text, figures, tables. It loads nothing and runs nothing.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::draw;
use super::model::{Figure, Kind, Panel};
use super::output::{COLUMNS, rows};
use super::run::Run;

const STYLE: &str = "
:root{color-scheme:light dark}
body{font:16px/1.5 Helvetica,Arial,'Liberation Sans','DejaVu Sans',sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin:3rem 0 .5rem}
figure{margin:1rem 0}figure svg{max-width:100%;height:auto;display:block;border:1px solid #dedede}
code{font:.85rem ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace}
.finding{font-weight:bold}
.scroll{overflow-x:auto;max-height:28rem;overflow-y:auto}
table{border-collapse:collapse;font-size:.85rem}
th,td{padding:.15rem .7rem;border-bottom:1px solid #dedede;text-align:left;white-space:nowrap}
td.number{text-align:right;font-variant-numeric:tabular-nums}
summary{cursor:pointer}
a{color:#0072b2}
@media (prefers-color-scheme:dark){body{color:#e8e8e8;background:#15181c}figure svg{border-color:#33383e}th,td{border-color:#33383e}a{color:#9ad7ff}}
";

/// The page.
pub fn page(run: &Run, figures: &[Figure]) -> String {
    let title = "xenvelope: routes between guests, measured";
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (introduction(run))
                ul {
                    @for figure in figures {
                        li { a href={ "#" (figure.id) } { (figure.title) } }
                    }
                }
                @for figure in figures { (section(run, figure)) }
            }
        }
    }
    .into_string()
}

fn introduction(run: &Run) -> Markup {
    let machine = &run.machine;
    html! {
        p {
            "Made by " code { (run.command) } " on " (run.date) ", version " (run.version) ", with "
            (machine.cores) " cores of " (machine.model) ". Timings are medians of "
            (run.rounds) " rounds, with a bar from the least to the most (points at the same place of the x \
            axis stand side by side); bus bytes, \
            channels and pages are counted and the same on every machine; events and hypercalls are \
            counted too, and fewer where a busy machine makes batches longer."
            @if run.quick { " This was a quick run: few points, short rounds." }
            @if run.debug { " The program was built without optimisation: its speeds mean nothing." }
        }
        p {
            "The host is simulated in one process, with the frontend and backend that run on Xen. \
            A hypercall, an event, an IOMMU miss and the way through the card cost what was published \
            for real hosts (Dall et al., ISCA 2016; Neugebauer et al., SIGCOMM 2018). The routes \
            and their comparison are those of Santos, Turner and Mudigonda, "
            em { "Taming Heterogeneous NIC Capabilities for I/O Virtualization" } " (WIOV 2008)."
        }
    }
}

fn section(run: &Run, figure: &Figure) -> Markup {
    html! {
        section id=(figure.id) {
            h2 { (figure.title) }
            p.finding { (figure.finding) "." }
            figure { (PreEscaped(draw(figure, run).to_string())) }
            p { (figure.caption) }
            p {
                "By itself: " code { (figure.command) } ". Files: "
                a href={ (figure.id) ".svg" } { (figure.id) ".svg" } ", "
                a href={ (figure.id) ".csv" } { (figure.id) ".csv" } ", "
                a href="data.json" { "data.json" } "."
            }
            details {
                summary { "The data" }
                div.scroll {
                    table {
                        thead { tr { @for column in COLUMNS { th { (column) } } } }
                        tbody {
                            @for panel in &figure.panels {
                                @for row in rows(panel) { (data_row(&row)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn data_row(row: &[String; COLUMNS.len()]) -> Markup {
    html! {
        tr {
            @for (column, cell) in row.iter().enumerate() {
                // The first two are words, and so is the place of a bar.
                @let number = column > 1 && cell.parse::<f64>().is_ok();
                td.number[number] { (cell) }
            }
        }
    }
}

/// What a panel's values are called: its y axis, or of bars the axis that they grow along.
pub(super) fn quantity(panel: &Panel) -> &str {
    match panel.kind {
        Kind::StackedBars(_) => &panel.x.label,
        Kind::Lines | Kind::Trace => &panel.y.label,
    }
}
