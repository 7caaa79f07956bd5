use clap::Parser;
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}
#[derive(clap::Subcommand)]
enum Command {
    #[command(subcommand)]
    Lab(plgw::lab::LabCommand),
}
fn main() -> std::process::ExitCode {
    let Command::Lab(command) = Cli::parse().command;
    let logs = plgw::telemetry::LogSettings::from_env().and_then(|settings| settings.start());
    logs.map(drop).unwrap_or_else(|error| eprintln!("plgw: {error}"));
    command.run().unwrap_or_else(|error| {
        let causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
        eprintln!("plgw: {}", causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")));
        std::process::ExitCode::FAILURE
    })
}
