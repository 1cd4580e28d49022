import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.jpa.api.IDaoRegistry;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.api.dao.DaoRegistry;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.binary.api.IBinaryStorageSvc;
import ca.uhn.fhir.jpa.binstore.DatabaseBinaryContentStorageSvcImpl;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.config.util.ResourceCountCacheUtil;
import ca.uhn.fhir.jpa.dao.FulltextSearchSvcImpl;
import ca.uhn.fhir.jpa.dao.IFulltextSearchSvc;
import ca.uhn.fhir.jpa.dao.search.HSearchSortHelperImpl;
import ca.uhn.fhir.jpa.dao.search.IHSearchSortHelper;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.model.entity.StorageSettings;
import ca.uhn.fhir.jpa.provider.DaoRegistryResourceSupportedSvc;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.search.IStaleSearchDeletingSvc;
import ca.uhn.fhir.jpa.search.StaleSearchDeletingSvcImpl;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.subscription.match.config.SubscriptionProcessorConfig;
import ca.uhn.fhir.jpa.subscription.match.deliver.email.IEmailSender;
import ca.uhn.fhir.jpa.subscription.submit.config.SubscriptionSubmitterConfig;
import ca.uhn.fhir.jpa.util.ResourceCountCache;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.IResourceSupportedSvc;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.interceptor.RequestValidatingInterceptor;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import ca.uhn.fhir.validation.IValidatorModule;
import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import jakarta.persistence.EntityManagerFactory;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import javax.sql.DataSource;
import org.apache.commons.dbcp2.BasicDataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.http.UriCompliance;
import org.eclipse.jetty.server.HttpConfiguration;
import org.eclipse.jetty.server.HttpConnectionFactory;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.hl7.fhir.dstu2.model.Subscription.SubscriptionChannelType;
import org.hl7.fhir.utilities.http.ManagedWebAccess;
import org.hl7.fhir.utilities.http.ManagedWebAccess.WebAccessPolicy;
import org.slf4j.LoggerFactory;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.ApplicationContext;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.context.annotation.Primary;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;

/**
 * A HAPI FHIR JPA server (R4) on a database in memory.
 *
 * <p>Arguments: port, `validate` or `-`, `subscriptions` or `-`, resource types with commas between.
 */
public final class HapiServer {

    /** What the server is made of. Bean names and types are those that HAPI's own parts ask for. */
    @Configuration
    @Import({
        ThreadPoolFactoryConfig.class,
        JpaR4Config.class,
        JpaBatch2Config.class,
        Batch2JobsConfig.class,
        SubscriptionSubmitterConfig.class,
        SubscriptionProcessorConfig.class,
        SubscriptionChannelConfig.class
    })
    public static class Parts {

        @Bean
        public JpaStorageSettings storageSettings() {
            JpaStorageSettings settings = new JpaStorageSettings();
            // Who writes and searches at once must find what was written.
            settings.setReuseCachedSearchResultsForMillis(null);
            settings.setEnforceReferentialIntegrityOnWrite(true);
            settings.setEnforceReferentialIntegrityOnDelete(true);
            settings.setExpungeEnabled(true);
            settings.setDeleteExpungeEnabled(true);
            settings.setAllowMultipleDelete(true);
            settings.setHibernateSearchIndexFullText(false);
            settings.setIndexMissingFields(StorageSettings.IndexEnabledEnum.DISABLED);
            return settings;
        }

        @Bean
        public SubscriptionSettings subscriptionSettings() {
            SubscriptionSettings settings = new SubscriptionSettings();
            if (Boolean.getBoolean("subscriptions")) {
                settings.addSupportedSubscriptionType(SubscriptionChannelType.RESTHOOK);
            }
            settings.setSubscriptionChangeQueuedImmediately(true);
            return settings;
        }

        @Bean
        public PartitionSettings partitionSettings() {
            return new PartitionSettings();
        }

        @Bean(destroyMethod = "close")
        public BasicDataSource dataSource() {
            BasicDataSource source = new BasicDataSource();
            source.setUrl("jdbc:h2:mem:fhir;DB_CLOSE_DELAY=-1");
            source.setUsername("sa");
            source.setPassword("");
            source.setMaxTotal(20);
            return source;
        }

        @Bean
        @Primary
        public LocalContainerEntityManagerFactoryBean entityManagerFactory(
                DataSource source,
                ConfigurableListableBeanFactory beans,
                FhirContext fhir,
                JpaStorageSettings settings) {
            LocalContainerEntityManagerFactoryBean factory =
                    HapiEntityManagerFactoryUtil.newEntityManagerFactory(beans, fhir, settings);
            factory.setPersistenceUnitName("fhir");
            factory.setDataSource(source);
            Properties properties = new Properties();
            properties.put("hibernate.dialect", HapiFhirH2Dialect.class.getName());
            properties.put("hibernate.hbm2ddl.auto", "create");
            properties.put("hibernate.search.enabled", "false");
            properties.put("hibernate.cache.use_query_cache", "false");
            properties.put("hibernate.cache.use_second_level_cache", "false");
            factory.setJpaProperties(properties);
            return factory;
        }

        @Bean
        @Primary
        public JpaTransactionManager transactionManager(EntityManagerFactory factory) {
            return new JpaTransactionManager(factory);
        }

        @Bean
        public IFulltextSearchSvc fulltextSearch() {
            return new FulltextSearchSvcImpl();
        }

        @Bean
        public IHSearchSortHelper searchSortHelper(ISearchParamRegistry registry) {
            return new HSearchSortHelperImpl(registry);
        }

        @Bean
        public IStaleSearchDeletingSvc staleSearches() {
            return new StaleSearchDeletingSvcImpl();
        }

        @Bean
        public DatabaseBackedPagingProvider paging() {
            DatabaseBackedPagingProvider paging = new DatabaseBackedPagingProvider();
            paging.setDefaultPageSize(50);
            paging.setMaximumPageSize(500);
            return paging;
        }

        @Bean
        public IResourceSupportedSvc resourceSupported(IDaoRegistry registry) {
            return new DaoRegistryResourceSupportedSvc(registry);
        }

        @Bean
        public ResourceCountCache myResourceCountsCache(IFhirSystemDao<?, ?> dao) {
            return ResourceCountCacheUtil.newResourceCountCache(dao);
        }

        @Bean
        public IBinaryStorageSvc binaryStorage() {
            return new DatabaseBinaryContentStorageSvcImpl();
        }

        @Bean
        public IEmailSender emailSender() {
            return details -> {};
        }
    }

    /** Validates what tells of patients. A StructureDefinition would need a package from the network. */
    public static final class InstanceValidatingInterceptor extends RequestValidatingInterceptor {

        @Override
        public boolean incomingRequestPostProcessed(
                RequestDetails details, HttpServletRequest request, HttpServletResponse response) {
            return "StructureDefinition".equals(details.getResourceName())
                    || super.incomingRequestPostProcessed(details, request, response);
        }
    }

    public static void main(String[] arguments) throws Exception {
        ((Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME)).setLevel(Level.WARN);
        ManagedWebAccess.setAccessPolicy(WebAccessPolicy.PROHIBITED);
        int port = Integer.parseInt(arguments[0]);
        boolean validate = arguments[1].equals("validate");
        System.setProperty("subscriptions", String.valueOf(arguments[2].equals("subscriptions")));
        List<String> types = Arrays.asList(arguments[3].split(","));

        AnnotationConfigApplicationContext parts = new AnnotationConfigApplicationContext();
        parts.setAllowCircularReferences(true);
        parts.register(Parts.class);
        parts.refresh();
        serve(port, fhirServer(parts, types, validate));
    }

    private static RestfulServer fhirServer(ApplicationContext parts, List<String> types, boolean validate) {
        DaoRegistry registry = parts.getBean(DaoRegistry.class);
        registry.setSupportedResourceTypes(types);
        registry.getResourceDao("Patient"); // it fills itself at its first use; two first requests at once collide
        IFhirSystemDao<?, ?> dao = parts.getBean(IFhirSystemDao.class);
        RestfulServer server = new RestfulServer(parts.getBean(FhirContext.class));
        server.registerProviders(parts.getBean(ResourceProviderFactory.class).createProviders());
        server.registerProvider(parts.getBean(IJpaSystemProvider.class));
        server.setServerConformanceProvider(new JpaCapabilityStatementProvider(
                server,
                dao,
                parts.getBean(JpaStorageSettings.class),
                parts.getBean(ISearchParamRegistry.class),
                parts.getBean(IValidationSupport.class)));
        server.setPagingProvider(parts.getBean(DatabaseBackedPagingProvider.class));
        server.setDefaultResponseEncoding(EncodingEnum.JSON);
        if (validate) {
            RequestValidatingInterceptor validator = new InstanceValidatingInterceptor();
            validator.addValidatorModule(parts.getBean(IValidatorModule.class));
            server.registerInterceptor(validator);
        }
        return server;
    }

    private static void serve(int port, RestfulServer fhir) throws Exception {
        Server jetty = new Server();
        HttpConfiguration http = new HttpConfiguration();
        // Clients write `?identifier=system|value` with the bar as it is.
        http.setUriCompliance(UriCompliance.UNSAFE);
        ServerConnector connector = new ServerConnector(jetty, new HttpConnectionFactory(http));
        connector.setHost(new InetSocketAddress("127.0.0.1", port).getHostString());
        connector.setPort(port);
        jetty.addConnector(connector);
        ServletContextHandler context = new ServletContextHandler("/");
        context.getServletHandler().setDecodeAmbiguousURIs(true);
        context.addServlet(new ServletHolder(fhir), "/fhir/*");
        jetty.setHandler(context);
        jetty.start();
        jetty.join();
    }
}
