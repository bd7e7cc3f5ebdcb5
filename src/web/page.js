import * as corebeat from './corebeat.js';
