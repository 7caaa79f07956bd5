//! The module's tests: the files in `config/`, and what is said of mistakes.

mod anything;
mod clouds;
mod files;
mod growth;
mod mistakes;
