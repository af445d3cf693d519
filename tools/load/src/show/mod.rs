//! What people see: the live view, the table at the end, pages with plots, and runs beside one another.
//!
//! `saved` is a run as it stands in a file; `table`, `page` and `compare` draw from nothing else, so that a saved run gives the same
//! page as the run itself. `charts` says what is drawn of a run, `scale` and `plot` draw, `sheet` is what all pages have in common.

pub mod args;
pub mod live;
pub mod page;
pub mod table;

mod charts;
mod compare;
mod compare_page;
mod plot;
mod saved;
mod scale;
mod sheet;
