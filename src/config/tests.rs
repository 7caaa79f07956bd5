//! The module's tests: the files in `config/`, and what is said of mistakes.

mod anything;
mod files;
mod growth;
mod mistakes;
