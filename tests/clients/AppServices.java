// An app used by the JDK's HTTP client: `AppServices CA HOST PORT PATH GET|SYNC`. GET prints a line each for HTTP/1.1 and
// HTTP/2: the version, the status and the body. SYNC opens a WebSocket and prints `the same` when its messages come back,
// else the status of the refusal. What went wrong is printed as `error KIND`. Addresses come from `-Djdk.net.hosts.file`.
import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.Arrays;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

class AppServices {
    static final Duration LIMIT = Duration.ofSeconds(10);

    public static void main(String[] args) throws Exception {
        HttpClient.Builder builder = HttpClient.newBuilder().sslContext(trusting(args[0])).connectTimeout(LIMIT);
        String place = "://" + args[1] + ":" + args[2] + args[3];
        if (args[4].equals("GET")) {
            for (HttpClient.Version version : HttpClient.Version.values()) {
                try {
                    HttpClient client = builder.version(version).build();
                    HttpRequest request = HttpRequest.newBuilder(URI.create("https" + place)).timeout(LIMIT).build();
                    var response = client.send(request, BodyHandlers.ofString());
                    System.out.println(response.version() + " " + response.statusCode() + " " + response.body());
                } catch (java.io.IOException error) {
                    System.out.println(version + " error " + error.getClass().getSimpleName());
                }
            }
        } else {
            System.out.println(echoes(builder.build(), URI.create("wss" + place)));
        }
        // The client's threads would keep the process.
        System.exit(0);
    }

    static SSLContext trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream pem = new FileInputStream(file)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }

    static String echoes(HttpClient client, URI uri) throws Exception {
        BlockingQueue<byte[]> heard = new ArrayBlockingQueue<>(1);
        ByteArrayOutputStream part = new ByteArrayOutputStream();
        WebSocket.Listener listener = new WebSocket.Listener() {
            @Override
            public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
                byte[] bytes = new byte[data.remaining()];
                data.get(bytes);
                part.writeBytes(bytes);
                if (last) {
                    heard.add(part.toByteArray());
                    part.reset();
                }
                socket.request(1);
                return null;
            }
        };
        try {
            WebSocket socket = client.newWebSocketBuilder().subprotocols("com.mongodb.realm-query-sync#14")
                .connectTimeout(LIMIT).buildAsync(uri, listener).join();
            for (int size : new int[] {5, 1 << 20, 0}) {
                byte[] message = new byte[size];
                Arrays.fill(message, (byte) size);
                socket.sendBinary(ByteBuffer.wrap(message), true).join();
                byte[] answer = heard.poll(LIMIT.toSeconds(), TimeUnit.SECONDS);
                if (!Arrays.equals(answer, message)) {
                    return answer == null ? "nothing in time" : "something else";
                }
            }
            return "the same";
        } catch (CompletionException error) {
            if (error.getCause() instanceof WebSocketHandshakeException refused) {
                return String.valueOf(refused.getResponse().statusCode());
            }
            return "error " + error.getCause().getClass().getSimpleName();
        }
    }
}
