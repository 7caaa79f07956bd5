// Makes the three servers one set, once; then the horizons, so that clients are told the gateway's names. For mongosh.
{
  const members = ["10.1.0.11:27017", "10.1.0.12:27017", "10.1.0.13:27017"].map((host, _id) => ({ _id, host }));
  try {
    rs.initiate({ _id: "Cluster0-shard-0-shard-0", members });
  } catch (error) {
    if (error.codeName !== "AlreadyInitialized") throw error;
  }
  while (!rs.hello().isWritablePrimary) sleep(200);
  load("/init/horizons.js");
}
