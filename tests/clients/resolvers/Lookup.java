// Looks names up by the JDK: addresses as `InetAddress` finds them, and by JNDI a type of record that the names do not have.
// `NAME ADDRESS…` on a line each, then `TXT NAME none` or `TXT NAME error KIND`.
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.Hashtable;
import javax.naming.Context;
import javax.naming.NamingException;
import javax.naming.directory.InitialDirContext;

class Lookup {
    public static void main(String[] names) throws NamingException {
        Hashtable<String, String> settings = new Hashtable<>();
        settings.put(Context.INITIAL_CONTEXT_FACTORY, "com.sun.jndi.dns.DnsContextFactory");
        InitialDirContext dns = new InitialDirContext(settings);
        for (String name : names) {
            StringBuilder line = new StringBuilder(name);
            try {
                for (InetAddress address : InetAddress.getAllByName(name)) {
                    line.append(' ').append(address.getHostAddress());
                }
            } catch (UnknownHostException error) {
                line.append(" error not-found");
            }
            System.out.println(line);
        }
        for (String name : names) {
            try {
                int found = dns.getAttributes(name, new String[] {"TXT"}).size();
                System.out.println("TXT " + name + (found == 0 ? " none" : " " + found));
            } catch (NamingException error) {
                System.out.println("TXT " + name + " error " + error.getClass().getSimpleName());
            }
        }
    }
}
