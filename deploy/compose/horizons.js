// Cluster0: run it in mongosh, connected to the set's primary.
//   pl-0: for clients that connect through vpce-024f5b57108c8d3ed
// Servers choose by the name that a client asks for in TLS, so they need TLS and certificates with these names.
// The keys are the members' `host` in rs.conf(): write yours where they differ. Run it again when a port moves.
{
  const horizons = {
    "10.1.0.11:27017": { "pl-0": "pl-0-us-east-1-k45tj.mongodb.net:1024" },
    "10.1.0.12:27017": { "pl-0": "pl-0-us-east-1-k45tj.mongodb.net:1025" },
    "10.1.0.13:27017": { "pl-0": "pl-0-us-east-1-k45tj.mongodb.net:1026" },
  };
  const conf = rs.conf();
  for (const member of conf.members) {
    if (!horizons[member.host]) throw new Error("no horizons for " + member.host + ": write its host above");
    member.horizons = horizons[member.host];
  }
  rs.reconfig(conf);
}
