// One of the five writers of failover.py, with the synchronous Java driver; see writer.py for what it prints.
//
// Writer URI CA COLLECTION

import com.mongodb.ConnectionString;
import com.mongodb.MongoClientSettings;
import com.mongodb.MongoException;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoCollection;
import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.bson.Document;

public class Writer {
  static void say(Object... words) {
    String line = Arrays.stream(words).map(word -> String.valueOf(word).replace('\n', ' ')).collect(Collectors.joining("\t"));
    synchronized (System.out) {
      System.out.println(line);
      System.out.flush();
    }
  }

  static void write(MongoCollection<Document> things, int number) {
    say("start", number);
    try {
      things.insertOne(new Document("_id", number));
      say("ok", number);
    } catch (MongoException error) {
      String labels = String.join(",", error.getErrorLabels());
      say("error", number, error.getClass().getSimpleName(), error.getCode(), labels, error.getMessage());
    }
  }

  static SSLContext trusting(String ca) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (FileInputStream in = new FileInputStream(ca)) {
      store.setCertificateEntry("lab", CertificateFactory.getInstance("X.509").generateCertificate(in));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    return context;
  }

  public static void main(String[] args) throws Exception {
    SSLContext context = trusting(args[1]);
    MongoClientSettings settings = MongoClientSettings.builder()
        .applyConnectionString(new ConnectionString(args[0]))
        .applyToSslSettings(ssl -> ssl.enabled(true).context(context))
        .build();
    CountDownLatch ended = new CountDownLatch(1);
    Thread input = new Thread(() -> {
      try {
        while (System.in.read() >= 0) {}
      } catch (java.io.IOException error) {
        // It is gone: as good as ended.
      }
      ended.countDown();
    });
    input.setDaemon(true);
    input.start();
    try (var client = MongoClients.create(settings)) {
      MongoCollection<Document> things = client.getDatabase("lab").getCollection(args[2]);
      var threads = Executors.newCachedThreadPool();
      for (int n = 0; !ended.await(200, TimeUnit.MILLISECONDS); n++) {
        int number = n;
        threads.execute(() -> write(things, number));
      }
      threads.shutdown();
      threads.awaitTermination(1, TimeUnit.HOURS);
    }
  }
}
